/* SPDX-License-Identifier: Apache-2.0 */
/* oip_repository.c - the model repository of the Open Inference Protocol (its extension, as Triton and KServe have it):
 * POST /v2/repository/index, /v2/repository/models/NAME/load and /unload. The idea: another way in to admin.c, which
 * says who may and does the work; NAME comes from the path, and what else there is to say of a model from the body's
 * `parameters`, whose members are keys of `model`. Threads: the call's network thread. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "wire/wire_state.h"

void cpl_oip_index(cpl_call *call, const uint8_t *data, size_t n, void *wire)
{
    (void)data, (void)n;
    cpl_wire_models models;
    cpl_buf *out = &cpl_wire_loop_of(call)->out;
    cpl_json_writer w = {.out = out};
    cpl_wire_models_take(&models, wire);
    cpl_buf_clear(out);
    cpl_json_open(&w, NULL, '[');
    for (uint32_t i = 0; i < models.count; i++) {
        const cpl_engine_model *m = models.at[i];
        if (i && !strcmp(models.at[i - 1]->name, m->name)) continue; /* a replica */
        cpl_json_open(&w, NULL, '{');
        cpl_json_text(&w, "name", m->name);
        cpl_json_text(&w, "version", "1");
        cpl_json_text(&w, "state", "READY");
        cpl_json_text(&w, "reason", "");
        cpl_json_close(&w, '}');
    }
    cpl_json_close(&w, ']');
    cpl_wire_models_let_go(&models);
    cpl_wire_respond(call, 200, "application/json", out);
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* NAME of ".../models/NAME/verb", %XX undone. False: too long, or broken. */
static bool read_name(char *out, size_t cap, const cpl_call *call)
{
    static const char before[] = "/v2/repository/models/";
    const cpl_text path = cpl_call_metadata(call, ":path");
    size_t n = 0;
    for (size_t i = sizeof before - 1; i < path.size && path.data[i] != '/'; i++) {
        char c = path.data[i];
        if (c == '%') {
            const int high = i + 2 < path.size ? hex(path.data[i + 1]) : -1,
                      low = high < 0 ? -1 : hex(path.data[i + 2]);
            if (low < 0) return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (n + 1 >= cap || !c) return false;
        out[n++] = c;
    }
    out[n] = 0;
    return n > 0;
}

/* {"name": NAME, and the members of `parameters`} for the configuration's own reader. */
static cpl_status write_model(cpl_buf *out, const char *name, const uint8_t *data, size_t n, cpl_error *err)
{
    json_t *body = NULL, *model = json_pack("{s:s}", "name", name);
    cpl_status st = model ? CPL_OK : cpl_fail(err, CPL_INVALID, "the model's name is not UTF-8");
    if (!st && n) st = cpl_json_parse(&body, "request body", (const char *)data, n, err);
    json_t *parameters = json_object_get(body, "parameters");
    if (!st && parameters && !json_is_object(parameters))
        st = cpl_fail(err, CPL_INVALID, "'parameters' is not an object of settings of the model");
    if (!st && json_object_get(parameters, "name"))
        st = cpl_fail(err, CPL_INVALID, "'parameters' has a 'name': the path names the model");
    if (!st && parameters && json_object_update(model, parameters)) st = cpl_fail_memory(err, n);
    char *text = st ? NULL : json_dumps(model, JSON_COMPACT);
    if (!st && !text) st = cpl_fail_memory(err, n);
    if (!st) cpl_buf_text(out, text);
    free(text);
    json_decref(model);
    json_decref(body);
    return st;
}

static void change(cpl_call *call, const uint8_t *data, size_t n, cpl_wire *w, bool unloads)
{
    char name[128];
    cpl_buf text = {0};
    cpl_error err;
    cpl_status st = read_name(name, sizeof name, call)
                        ? CPL_OK
                        : cpl_fail(&err, CPL_INVALID, "the path's model name is broken or longer than 127 bytes");
    if (!st && !unloads) st = write_model(&text, name, data, n, &err);
    if (!st) {
        cpl_admin_named(call, w, unloads, name, &text);
        return;
    }
    cpl_buf_deinit(&text);
    cpl_call_finish(call, cpl_grpc_code_of(st), err.what);
}

void cpl_oip_load(cpl_call *call, const uint8_t *data, size_t n, void *wire) { change(call, data, n, wire, false); }

void cpl_oip_unload(cpl_call *call, const uint8_t *data, size_t n, void *wire) { change(call, data, n, wire, true); }
