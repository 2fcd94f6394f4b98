/* SPDX-License-Identifier: Apache-2.0 */
/* foreign.hpp - what plug-ins in C++ share: exceptions as statuses, settings, the padded rectangles (padded.h) as an
 * object. Header only; the plug-in's own flags apply. */
#ifndef CPL_BACKEND_FOREIGN_FOREIGN_HPP
#define CPL_BACKEND_FOREIGN_FOREIGN_HPP

#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <string>

extern "C" {
#include "backend/foreign/padded.h"
}

namespace couplet
{

/* The first line of what a runtime threw: the rest is its stack. */
inline std::string first_line(const char *what)
{
    const char *end = std::strchr(what, '\n');
    return end ? std::string(what, end) : std::string(what);
}

/* Runs f, which returns a cpl_status; whatever it throws becomes one. */
template <class F> cpl_status guarded(const cpl_host &host, cpl_error *err, const char *doing, F f)
{
    try {
        return f();
    } catch (const std::bad_alloc &) {
        return host.fail(err, CPL_NO_MEMORY, "out of memory: %s", doing);
    } catch (const std::exception &e) {
        return host.fail(err, CPL_INTERNAL, "%s failed: %s", doing, first_line(e.what()).c_str());
    } catch (...) {
        return host.fail(err, CPL_INTERNAL, "%s failed: the runtime threw something that is no exception", doing);
    }
}

inline void say(const cpl_host &host, cpl_log_level level, const std::string &line)
{
    if (host.log && level <= host.log->level) host.log->write(host.log->user, level, line.c_str());
}

/* The value of "key=value" when the setting is of that key, else NULL. */
inline const char *setting(const char *text, const char *key)
{
    const size_t n = std::strlen(key);
    return !std::strncmp(text, key, n) && text[n] == '=' ? text + n + 1 : nullptr;
}

/* What a session's rectangles are sized by. */
struct Shape {
    cpl_padded_model model{};
    uint32_t tokens_max = 0, sequences_max = 0; /* of one pass */

    Shape() = default;
    Shape(const cpl_model &m, const cpl_load_options &o)
        : tokens_max(o.batch_tokens_max), sequences_max(o.batch_sequences_max)
    {
        model.vocab = m.arch.vocab;
        model.types = m.arch.types;
        model.labels = m.arch.labels;
        model.hidden = m.arch.hidden;
        model.max_length = m.max_length;
        model.pooling = m.pooling;
    }
};

/* A cpl_padded that is closed when it goes. */
class Padded
{
  public:
    Padded() = default;
    Padded(const Padded &) = delete;
    Padded &operator=(const Padded &) = delete;
    ~Padded() { cpl_padded_close(&padded_); }

    cpl_status open(const cpl_host &host, const Shape &s, uint32_t width_multiple, uint32_t launch_tokens,
                    cpl_error *err)
    {
        cpl_rectangle_limits limits{};
        limits.width_multiple = width_multiple;
        limits.launch_tokens = launch_tokens;
        return cpl_padded_open(&padded_, &host, &s.model, &limits, s.tokens_max, s.sequences_max, err);
    }

    /* f(rows, width, tensors, out): throws, or has filled `out`. */
    template <class F>
    cpl_status run(const cpl_batch &b, cpl_padded_form form, float *rows, cpl_error *err, const char *doing, F f)
    {
        struct Call {
            F &f;
            const cpl_host *host;
            const char *doing;
        } call{f, padded_.host, doing};
        const auto pass = [](void *arg, uint32_t n, uint32_t width, const cpl_rectangle_tensors *in, float *out,
                             cpl_error *e) -> cpl_status {
            Call *c = static_cast<Call *>(arg);
            return guarded(*c->host, e, c->doing, [&] {
                c->f(n, width, *in, out);
                return CPL_OK;
            });
        };
        return cpl_padded_run(&padded_, &b, form, pass, &call, rows, err);
    }

    uint64_t padding() const { return padded_.padding; } /* tokens, since open */

  private:
    cpl_padded padded_{};
};

/* True when a rectangle has padding: then some row's last cell has. */
inline bool has_padding(const int64_t *mask, uint32_t rows, uint32_t width)
{
    for (uint32_t i = 0; i < rows; i++)
        if (!mask[(size_t)i * width + width - 1]) return true;
    return false;
}

} // namespace couplet

#endif
