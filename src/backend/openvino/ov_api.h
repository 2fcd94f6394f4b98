/* SPDX-License-Identifier: Apache-2.0 */
/* ov_api.h - the part of OpenVINO's C API that is used here, as a table of functions found by name at run time. */
#ifndef CPL_BACKEND_OPENVINO_OV_API_H
#define CPL_BACKEND_OPENVINO_OV_API_H

#include <stddef.h>
#include <stdint.h>

typedef struct ov_core ov_core_t;
typedef struct ov_model ov_model_t;
typedef struct ov_compiled_model ov_compiled_model_t;
typedef struct ov_infer_request ov_infer_request_t;
typedef struct ov_tensor ov_tensor_t;
typedef struct ov_output_const_port ov_output_const_port_t;

typedef struct ov_shape {
    int64_t rank;
    int64_t *dims;
} ov_shape_t;

typedef struct ov_version {
    const char *buildNumber, *description;
} ov_version_t;

typedef struct ov_profiling_info {
    int status; /* 2: executed */
    int64_t real_time, cpu_time;
    const char *node_name, *exec_type, *node_type;
} ov_profiling_info_t;

typedef struct ov_profiling_info_list {
    ov_profiling_info_t *profiling_infos;
    size_t size;
} ov_profiling_info_list_t;

/* Calls give 0 or an error, whose text is ov_get_last_err_msg. Element types are numbers that changed between versions:
 * they are read from a model's ports and handed back, never written here. */
typedef struct cpl_ov_api {
    int (*ov_get_openvino_version)(ov_version_t *out);
    void (*ov_version_free)(ov_version_t *version);
    const char *(*ov_get_last_err_msg)(void);
    void (*ov_free)(const char *text);
    int (*ov_core_create)(ov_core_t **out);
    void (*ov_core_free)(ov_core_t *core);
    int (*ov_core_read_model)(const ov_core_t *core, const char *path, const char *weights, ov_model_t **out);
    int (*ov_core_read_model_from_memory_buffer)(const ov_core_t *core, const char *text, size_t size,
                                                 const ov_tensor_t *weights, ov_model_t **out);
    int (*ov_core_compile_model)(const ov_core_t *core, const ov_model_t *model, const char *device, size_t words,
                                 ov_compiled_model_t **out, ...);
    void (*ov_model_free)(ov_model_t *model);
    int (*ov_model_inputs_size)(const ov_model_t *model, size_t *out);
    int (*ov_model_const_input_by_name)(const ov_model_t *model, const char *name, ov_output_const_port_t **out);
    int (*ov_model_const_output_by_index)(const ov_model_t *model, size_t index, ov_output_const_port_t **out);
    int (*ov_port_get_element_type)(const ov_output_const_port_t *port, int *out);
    void (*ov_output_const_port_free)(ov_output_const_port_t *port);
    int (*ov_compiled_model_create_infer_request)(const ov_compiled_model_t *compiled, ov_infer_request_t **out);
    int (*ov_compiled_model_get_property)(const ov_compiled_model_t *compiled, const char *key, char **out);
    void (*ov_compiled_model_free)(ov_compiled_model_t *compiled);
    int (*ov_infer_request_set_tensor)(ov_infer_request_t *request, const char *name, const ov_tensor_t *tensor);
    int (*ov_infer_request_infer)(ov_infer_request_t *request);
    int (*ov_infer_request_get_output_tensor_by_index)(const ov_infer_request_t *request, size_t index,
                                                       ov_tensor_t **out);
    int (*ov_infer_request_get_profiling_info)(const ov_infer_request_t *request, ov_profiling_info_list_t *out);
    void (*ov_profiling_info_list_free)(ov_profiling_info_list_t *list);
    void (*ov_infer_request_free)(ov_infer_request_t *request);
    int (*ov_tensor_create_from_host_ptr)(int type, ov_shape_t shape, void *data, ov_tensor_t **out);
    int (*ov_tensor_get_byte_size)(const ov_tensor_t *tensor, size_t *out);
    int (*ov_tensor_data)(const ov_tensor_t *tensor, void **out);
    void (*ov_tensor_free)(ov_tensor_t *tensor);
} cpl_ov_api;

#endif
