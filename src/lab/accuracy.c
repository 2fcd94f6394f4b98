/* SPDX-License-Identifier: Apache-2.0 */
/* accuracy.c - see accuracy.h. A process of its own, because measuring accuracy needs the library, which is beside the
 * laboratory and not below it, and because fp32's weights must not stay in the memory of a run. Threads: the caller's.
 */
#include "lab/accuracy.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/system.h"

extern char **environ;

static cpl_status read_all(int fd, cpl_buf *out, cpl_error *err)
{
    char part[8192];
    for (;;) {
        const ssize_t n = read(fd, part, sizeof part);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return cpl_fail(err, CPL_IO, "can't read from a process: %s", strerror(errno));
        if (!n) return cpl_buf_status(out, err);
        cpl_buf_add(out, part, (size_t)n);
    }
}

/* Runs argv with its stdout in *out. */
static cpl_status capture(const char *const *argv, cpl_buf *out, cpl_error *err)
{
    int ends[2], status = 0;
    pid_t pid;
    if (cpl_system_pipe(ends)) return cpl_fail(err, CPL_IO, "can't make a pipe: %s", strerror(errno));
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    const int failed = posix_spawn(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    cpl_status st =
        failed ? cpl_fail(err, CPL_IO, "can't start '%s': %s", argv[0], strerror(failed)) : read_all(ends[0], out, err);
    close(ends[0]);
    if (failed) return st;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!st && status) st = cpl_fail(err, CPL_INTERNAL, "'couplet bench quality' failed; its message is above");
    return st;
}

static double number(json_t *o, const char *key)
{
    json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : 0;
}

static cpl_status read_document(cpl_lab_quality *out, const cpl_buf *text, const char *precision, cpl_error *err)
{
    json_t *root;
    cpl_status st = cpl_json_parse(&root, "bench quality", text->data ? text->data : "", text->size, err);
    if (st) return st;
    json_t *list = json_object_get(root, "results"), *found = NULL;
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *one = json_array_get(list, i);
        const char *word = json_string_value(json_object_get(json_object_get(one, "precision"), "effective"));
        if (word && !strcmp(word, precision)) found = one;
    }
    if (found)
        *out = (cpl_lab_quality){.pairs = (uint64_t)number(root, "pair_count"),
                                 .spearman = number(found, "spearman"),
                                 .kendall = number(found, "kendall"),
                                 .ndcg10 = number(found, "ndcg10"),
                                 .cosine_mean = number(found, "cosine_mean"),
                                 .max_difference = number(found, "max_abs_over_deviation")};
    else
        st = cpl_fail(err, CPL_CORRUPT, "'couplet bench quality' said nothing about %s", precision);
    json_decref(root);
    return st;
}

cpl_status cpl_lab_accuracy(cpl_lab_quality *out, const cpl_lab_accuracy_options *o, cpl_error *err)
{
    char seed[32], count[32], ranked[32];
    const char *argv[24] = {o->program,  "bench",    "quality",     "--json",     "--model", o->model,
                            "--backend", o->backend, "--precision", o->precision, "--seed",  seed,
                            "--count",   count,      "--ranked",    ranked};
    size_t n = 16;
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)o->seed);
    snprintf(count, sizeof count, "%llu", (unsigned long long)o->count);
    snprintf(ranked, sizeof ranked, "%llu", (unsigned long long)o->ranked);
    if (o->pairs) {
        argv[n++] = "--pairs";
        argv[n++] = o->pairs;
    }
    if (*o->settings) {
        argv[n++] = "--settings";
        argv[n++] = o->settings;
    }
    if (strcmp(o->backend, "fake") != 0) {
        argv[n++] = "--reference";
        argv[n++] = "native";
    }
    argv[n] = NULL;
    cpl_buf text = {0};
    *out = (cpl_lab_quality){0};
    cpl_status st = capture(argv, &text, err);
    if (!st) st = read_document(out, &text, o->precision, err);
    cpl_buf_deinit(&text);
    return st;
}
