/* SPDX-License-Identifier: Apache-2.0 */
/* ort_api.h - the part of ONNX Runtime's C API that is used here. Its Python package carries no header.
 *
 * OrtApi is a table of functions that only ever grows at its end (that is its published promise), so a declaration of
 * our own with gaps in the right places is as good as the original. The number of each slot stands beside it;
 * tests/plugins/test_onnx.c holds them against the published list and calls every one. */
#ifndef CPL_BACKEND_ONNX_ORT_API_H
#define CPL_BACKEND_ONNX_ORT_API_H

#include <stddef.h>
#include <stdint.h>

typedef struct OrtStatus OrtStatus;
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtValue OrtValue;
typedef struct OrtTypeInfo OrtTypeInfo;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtAllocator OrtAllocator;
typedef struct OrtCUDAProviderOptionsV2 OrtCUDAProviderOptionsV2;
typedef void (*OrtLoggingFunction)(void *arg, int level, const char *category, const char *id, const char *where,
                                   const char *message);

/* OrtLoggingLevel, GraphOptimizationLevel, ONNXTensorElementDataType, OrtAllocatorType, OrtMemType */
enum { CPL_ORT_LOG_FATAL = 4, CPL_ORT_OPTIMIZE_NONE = 0, CPL_ORT_OPTIMIZE_ALL = 99 };
enum {
    CPL_ORT_FLOAT = 1,
    CPL_ORT_INT64 = 7,
    CPL_ORT_FLOAT16 = 10,
    CPL_ORT_ARENA_ALLOCATOR = 1,
    CPL_ORT_MEMORY_DEFAULT = 0
};
/* The first release with every slot below in its place and with opset 17: ONNX Runtime 1.14. */
enum { CPL_ORT_API_VERSION = 14 };

typedef struct OrtApi {
    void *gap_0[2];
    const char *(*GetErrorMessage)(const OrtStatus *status); /* 2 */
    void *gap_3[1];
    OrtStatus *(*CreateEnvWithCustomLogger)(OrtLoggingFunction log, void *arg, int level, const char *id,
                                            OrtEnv **out); /* 4 */
    void *gap_5[2];
    OrtStatus *(*CreateSession)(const OrtEnv *env, const char *path, const OrtSessionOptions *options,
                                OrtSession **out); /* 7 */
    OrtStatus *(*CreateSessionFromArray)(const OrtEnv *env, const void *model, size_t size,
                                         const OrtSessionOptions *options, OrtSession **out); /* 8 */
    OrtStatus *(*Run)(OrtSession *session, const OrtRunOptions *options, const char *const *input_names,
                      const OrtValue *const *inputs, size_t input_count, const char *const *output_names,
                      size_t output_count, OrtValue **outputs);  /* 9 */
    OrtStatus *(*CreateSessionOptions)(OrtSessionOptions **out); /* 10 */
    void *gap_11[3];
    OrtStatus *(*EnableProfiling)(OrtSessionOptions *options, const char *prefix); /* 14 */
    void *gap_15[8];
    OrtStatus *(*SetSessionGraphOptimizationLevel)(OrtSessionOptions *options, int level); /* 23 */
    OrtStatus *(*SetIntraOpNumThreads)(OrtSessionOptions *options, int threads);           /* 24 */
    void *gap_25[5];
    OrtStatus *(*SessionGetInputCount)(const OrtSession *session, size_t *out);  /* 30 */
    OrtStatus *(*SessionGetOutputCount)(const OrtSession *session, size_t *out); /* 31 */
    void *gap_32[1];
    OrtStatus *(*SessionGetInputTypeInfo)(const OrtSession *session, size_t index, OrtTypeInfo **out);  /* 33 */
    OrtStatus *(*SessionGetOutputTypeInfo)(const OrtSession *session, size_t index, OrtTypeInfo **out); /* 34 */
    void *gap_35[1];
    OrtStatus *(*SessionGetInputName)(const OrtSession *session, size_t index, OrtAllocator *allocator,
                                      char **out); /* 36 */
    OrtStatus *(*SessionGetOutputName)(const OrtSession *session, size_t index, OrtAllocator *allocator,
                                       char **out); /* 37 */
    void *gap_38[11];
    OrtStatus *(*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo *info, void *data, size_t bytes,
                                                 const int64_t *shape, size_t rank, int type, OrtValue **out); /* 49 */
    void *gap_50[5];
    OrtStatus *(*CastTypeInfoToTensorInfo)(const OrtTypeInfo *info, const OrtTensorTypeAndShapeInfo **out); /* 55 */
    void *gap_56[4];
    OrtStatus *(*GetTensorElementType)(const OrtTensorTypeAndShapeInfo *info, int *out);            /* 60 */
    OrtStatus *(*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo *info, size_t *out);           /* 61 */
    OrtStatus *(*GetDimensions)(const OrtTensorTypeAndShapeInfo *info, int64_t *out, size_t count); /* 62 */
    void *gap_63[6];
    OrtStatus *(*CreateCpuMemoryInfo)(int allocator, int memory, OrtMemoryInfo **out); /* 69 */
    void *gap_70[6];
    OrtStatus *(*AllocatorFree)(OrtAllocator *allocator, void *p); /* 76 */
    void *gap_77[1];
    OrtStatus *(*GetAllocatorWithDefaultOptions)(OrtAllocator **out); /* 78 */
    void *gap_79[13];
    void (*ReleaseEnv)(OrtEnv *env);                /* 92 */
    void (*ReleaseStatus)(OrtStatus *status);       /* 93 */
    void (*ReleaseMemoryInfo)(OrtMemoryInfo *info); /* 94 */
    void (*ReleaseSession)(OrtSession *session);    /* 95 */
    void (*ReleaseValue)(OrtValue *value);          /* 96 */
    void *gap_97[1];
    void (*ReleaseTypeInfo)(OrtTypeInfo *info); /* 98 */
    void *gap_99[1];
    void (*ReleaseSessionOptions)(OrtSessionOptions *options); /* 100 */
    void *gap_101[9];
    OrtStatus *(*SessionEndProfiling)(OrtSession *session, OrtAllocator *allocator, char **out); /* 110 */
    void *gap_111[14];
    OrtStatus *(*GetAvailableProviders)(char ***out, int *count);         /* 125 */
    OrtStatus *(*ReleaseAvailableProviders)(char **providers, int count); /* 126 */
    void *gap_127[77];
    OrtStatus *(*SessionOptionsAppendExecutionProvider_CUDA_V2)(OrtSessionOptions *options,
                                                                const OrtCUDAProviderOptionsV2 *cuda); /* 204 */
    OrtStatus *(*CreateCUDAProviderOptions)(OrtCUDAProviderOptionsV2 **out);                           /* 205 */
    OrtStatus *(*UpdateCUDAProviderOptions)(OrtCUDAProviderOptionsV2 *cuda, const char *const *keys,
                                            const char *const *values, size_t count); /* 206 */
    void *gap_207[1];
    void (*ReleaseCUDAProviderOptions)(OrtCUDAProviderOptionsV2 *cuda); /* 208 */
    void *gap_209[7];
    OrtStatus *(*SessionOptionsAppendExecutionProvider)(OrtSessionOptions *options, const char *name,
                                                        const char *const *keys, const char *const *values,
                                                        size_t count); /* 216 */
} OrtApi;

typedef struct OrtApiBase {
    const OrtApi *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} OrtApiBase;

#endif
