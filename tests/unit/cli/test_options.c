/* SPDX-License-Identifier: Apache-2.0 */
/* test_options.c - flags: values, typos, wrong values; and what is made of the command tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/commands.h"

static const cpl_flag flags[] = {
    {"json", CPL_FLAG_SWITCH, NULL, NULL, "one"},      {"model", CPL_FLAG_TEXT, "DIR", "models/x", "two"},
    {"threads", CPL_FLAG_COUNT, "N", "3", "three"},    {"seconds", CPL_FLAG_NUMBER, "S", NULL, "four"},
    {"set", CPL_FLAG_LIST, "KEY=VALUE", NULL, "five"}, {0},
};
static const cpl_command command = {.name = "test it", .summary = "s", .positional = "FILE...", .flags = flags};
static const cpl_command bare = {.name = "bare", .summary = "s"};

static cpl_status parse(cpl_args **a, const cpl_command *c, const char *const *words, cpl_error *e)
{
    int n = 0;
    while (words[n]) n++;
    return cpl_args_parse(a, c, n, (char **)words, e);
}
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void values_arrive(void **state)
{
    (void)state;
    cpl_args *a;
    cpl_error e;
    assert_int_equal(
        parse(&a, &command,
              WORDS("--json", "f1", "--model=a=b", "--set", "x=1", "--seconds", "0.5", "--set=y=", "--", "--f2"), &e),
        CPL_OK);
    assert_true(cpl_args_switch(a, "json"));
    assert_string_equal(cpl_args_text(a, "model"), "a=b");
    assert_int_equal(cpl_args_count(a, "threads"), 3);
    assert_false(cpl_args_given(a, "threads"));
    assert_true(cpl_args_number(a, "seconds") == 0.5);
    assert_string_equal(cpl_args_list(a, "set")[0], "x=1");
    assert_string_equal(cpl_args_list(a, "set")[1], "y=");
    assert_null(cpl_args_list(a, "set")[2]);
    assert_int_equal(cpl_args_positional_count(a), 2);
    assert_string_equal(cpl_args_positional(a, 1), "--f2");
    cpl_args_close(a);
    assert_int_equal(parse(&a, &command, (const char *const[]){NULL}, &e), CPL_OK);
    assert_string_equal(cpl_args_text(a, "model"), "models/x");
    assert_null(cpl_args_list(a, "set")[0]);
    cpl_args_close(a);
}

static void wrong_ones_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *words[3], *says;
    } cases[] = {
        {{"--modle", "x"}, "did you mean '--model'"},
        {{"--zebra"}, "unknown option '--zebra'"},
        {{"--model"}, "needs a value: DIR"},
        {{"--threads", "-1"}, "whole number"},
        {{"--threads", "2x"}, "whole number"},
        {{"--threads="}, "whole number"},
        {{"--seconds", "-1"}, "isn't negative"},
        {{"--seconds", "nan"}, "isn't negative"},
        {{"--json=1"}, "takes no value"},
        {{"-j"}, "two dashes"},
        {{"--threads", "99999999999999999999"}, "whole number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cpl_args *a;
        cpl_error e;
        assert_int_equal(parse(&a, &command, cases[i].words, &e), CPL_INVALID);
        if (!strstr(e.what, cases[i].says)) fail_msg("'%s' lacks '%s'", e.what, cases[i].says);
        assert_null(a);
    }
    cpl_args *a;
    cpl_error e;
    assert_int_equal(parse(&a, &bare, WORDS("file"), &e), CPL_INVALID);
    assert_non_null(strstr(e.what, "unexpected argument 'file'"));
}

static void every_command_is_found_and_described(void **state)
{
    (void)state;
    for (size_t i = 0; cpl_commands()[i]; i++) {
        const cpl_command *c = cpl_commands()[i];
        char name[64], *words[3] = {name, NULL, NULL};
        int used, n = 1;
        snprintf(name, sizeof name, "%s", c->name);
        char *space = strchr(name, ' ');
        if (space) {
            *space = 0;
            words[1] = space + 1;
            n = 2;
        }
        assert_ptr_equal(cpl_command_find(n, words, &used), c);
        assert_int_equal(used, n);
        if (space) assert_null(cpl_command_find(1, words, &used));
        cpl_buf help = {0}, man = {0};
        cpl_help_command(c, &help);
        cpl_help_man(c, &man);
        for (const cpl_flag *f = c->flags; f && f->name; f++) {
            char form[80];
            snprintf(form, sizeof form, "--%s", f->name);
            assert_non_null(strstr(help.data, form));
            for (const cpl_flag *g = f + 1; g->name; g++) assert_string_not_equal(f->name, g->name);
            if (f->kind != CPL_FLAG_SWITCH) assert_non_null(f->metavar);
        }
        assert_non_null(strstr(man.data, ".SH NAME"));
        cpl_buf_deinit(&help);
        cpl_buf_deinit(&man);
        /* A fallback that doesn't parse would make the command unusable. */
        cpl_args *a;
        cpl_error e;
        if (parse(&a, c, (const char *const[]){NULL}, &e)) fail_msg("%s: %s", c->name, e.what);
        cpl_args_close(a);
    }
}

static void completion_for_three_shells(void **state)
{
    (void)state;
    static const char *const shells[] = {"bash", "zsh", "fish"};
    cpl_error e;
    for (size_t i = 0; i < 3; i++) {
        cpl_buf out = {0};
        assert_int_equal(cpl_help_completion(shells[i], &out, &e), CPL_OK);
        assert_non_null(strstr(out.data, "serve"));
        assert_non_null(strstr(out.data, "couplet"));
        cpl_buf_deinit(&out);
    }
    cpl_buf out = {0};
    assert_int_equal(cpl_help_completion("tcsh", &out, &e), CPL_INVALID);
    cpl_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_arrive),
        cmocka_unit_test(wrong_ones_are_told),
        cmocka_unit_test(every_command_is_found_and_described),
        cmocka_unit_test(completion_for_three_shells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
