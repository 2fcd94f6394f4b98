/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - kerncheck: every kernel of every instruction set that this machine runs, against double precision.
 *
 *     kerncheck [--isa NAME] [--kernel TEXT] [--seed N] [--rounds PERCENT] [--self-test | --bench [--seconds S]]
 *
 * One line a kernel and instruction set: values compared, the worst error in units of the stated bound, the bound.
 * Exit status 0: all within; 1: something failed; 2: wrong usage; 77: this machine can't run the ISA asked for.
 *
 * --self-test puts each case's deliberately wrong kernels into the table and fails if one goes unnoticed. --bench times
 * the kernels (src/kernel/timing.h) beside the peak of their instructions.
 *
 * A kernel that faults is caught by a signal handler and counts as a failure, so one bad kernel hides no other. It
 * needs the C library only, so that it can be built for another processor and run under an emulator. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "frame.h"
#include "kernel/cpu.h"
#include "kernel/timing.h"

enum { FAILED = 1, WRONG_USAGE = 2, SKIPPED = 77 };

static const check_case *const cases[] = {
#define X(name) &check_##name,
    CHECK_CASES(X)
#undef X
};
enum { CASES = sizeof cases / sizeof cases[0] };

typedef struct options {
    const char *isa, *kernel;
    uint64_t seed;
    uint32_t rounds_percent;
    double seconds;
    bool bench, self_test;
} options;

/* ---- faults ------------------------------------------------------------------------------------------------------ */

static sigjmp_buf after_fault;
static volatile sig_atomic_t armed;
static const void *volatile fault_address;

static void on_fault(int signal_number, siginfo_t *info, void *context)
{
    (void)context;
    if (!armed) { /* not a kernel's: the program's own mistake */
        signal(signal_number, SIG_DFL);
        raise(signal_number);
        return;
    }
    armed = 0;
    fault_address = info->si_addr;
    siglongjmp(after_fault, 1);
}

static void catch_faults(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) sigaction(signals[i], &action, NULL);
}

/* ---- checks ------------------------------------------------------------------------------------------------------ */

static uint64_t hash(const char *text) /* FNV-1a */
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    return h;
}

static check start(const cpl_kernels *k, const check_case *what, const char *isa, const options *o)
{
    return (check){.k = k, .what = what, .isa = isa, .random = o->seed ^ hash(what->name)};
}

static void run_rounds(check *c, const options *o)
{
    uint32_t rounds = (uint32_t)((uint64_t)c->what->rounds * o->rounds_percent / 100);
    if (!rounds) rounds = 1;
    for (c->round = 0; c->round < rounds; c->round++) {
        if (sigsetjmp(after_fault, 1)) {
            check_fault(c, fault_address);
        } else {
            armed = 1;
            c->what->round(c, c->round);
            armed = 0;
        }
        check_end_round(c);
        if (c->quiet && c->failures) break;
    }
    free(c->blocks);
}

static const char *kernels_of(const cpl_kernels *k, const check_case *what)
{
    return what->isa ? what->isa(k) : k->isa;
}

/* done: a table whose kernels need no second check, or NULL. */
static uint64_t check_kernels(const cpl_kernels *k, const cpl_kernels *done, const char *isa, const options *o,
                              uint64_t *ran)
{
    uint64_t failures = 0;
    for (int i = 0; i < CASES; i++) {
        const check_case *what = cases[i];
        if ((o->kernel && !strstr(what->name, o->kernel)) || (what->present && !what->present(k))) continue;
        if (done && !strcmp(kernels_of(k, what), kernels_of(done, what))) continue;
        check c = start(k, what, isa, o);
        run_rounds(&c, o);
        printf("%-12s %-14s %-14s %8llu values  worst %.3f of %s%s\n", isa, what->name, kernels_of(k, what),
               (unsigned long long)c.compared, c.worst, what->bound, c.failures ? "  FAILED" : "");
        if (c.failures) printf("  %llu failures\n", (unsigned long long)c.failures);
        failures += c.failures;
        ++*ran;
    }
    return failures;
}

/* The kernels of a rung on this machine, and those it would run on one that has what the rung needs and no more. */
static uint64_t check_isa(const cpl_kernels *k, cpl_isa isa, const options *o, uint64_t *ran)
{
    const cpl_cpu bare = {.features = cpl_isa_needs(isa)};
    cpl_kernels without;
    cpl_kernels_choose_for(&without, isa, &bare);
    return check_kernels(k, NULL, cpl_isa_name(isa), o, ran) + check_kernels(&without, k, cpl_isa_name(isa), o, ran);
}

/* Every wrong kernel must be noticed. */
static uint64_t check_the_checks(const cpl_kernels *k, const char *isa, const options *o, uint64_t *ran)
{
    uint64_t missed = 0;
    for (int i = 0; i < CASES; i++) {
        const check_case *what = cases[i];
        if ((o->kernel && !strstr(what->name, o->kernel)) || (what->present && !what->present(k))) continue;
        if (!what->wrong || !what->wrong[0].what) {
            printf("FAILED %s: no wrong kernel to notice\n", what->name);
            missed++;
        }
        for (const check_wrong *w = what->wrong; w && w->what; w++) {
            cpl_kernels wrong = *k;
            w->install(&wrong);
            check c = start(&wrong, what, isa, o);
            c.quiet = true;
            run_rounds(&c, o);
            if (c.failures)
                printf("%-12s %-14s caught: %s\n", isa, what->name, w->what);
            else
                printf("FAILED %s %s: not noticed: %s\n", isa, what->name, w->what);
            missed += !c.failures;
            ++*ran;
        }
    }
    return missed;
}

static uint64_t bench_kernels(const cpl_kernels *k, cpl_isa isa, const options *o, uint64_t *ran)
{
    for (size_t i = 0; i < cpl_timing_count(); i++) {
        cpl_timing t;
        cpl_error err;
        if (o->kernel && !strstr(cpl_timing_kernel(i), o->kernel)) continue;
        if (!cpl_timing_runs(i, k)) continue;
        if (cpl_timing_measure(&t, i, k, isa, o->seconds, &err)) {
            printf("FAILED: %s\n", err.what);
            return 1;
        }
        printf("%-12s %-14s %-26s %-14s", cpl_isa_name(isa), t.kernel, t.shape, t.isa);
        if (t.peak_ops_per_s > 0)
            printf(" %8.1f Gop/s  %.3f of %.1f (%s)\n", t.ops_per_s * 1e-9, t.ops_per_s / t.peak_ops_per_s,
                   t.peak_ops_per_s * 1e-9, t.peak);
        else
            printf(" %8.3f ns an element\n", 1e9 / t.elements_per_s);
        ++*ran;
    }
    return 0;
}

/* ---- command line ------------------------------------------------------------------------------------------------ */

static int usage(const char *program)
{
    fprintf(stderr,
            "usage: %s [--isa NAME] [--kernel TEXT] [--seed N] [--rounds PERCENT] [--self-test | --bench [--seconds "
            "S]]\n",
            program);
    return WRONG_USAGE;
}

static bool parse(options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        char *end = (char *)"";
        if (!strcmp(name, "--bench")) {
            o->bench = true;
            continue;
        }
        if (!strcmp(name, "--self-test")) {
            o->self_test = true;
            continue;
        }
        if (!*value) return false;
        if (!strcmp(name, "--isa"))
            o->isa = value;
        else if (!strcmp(name, "--kernel"))
            o->kernel = value;
        else if (!strcmp(name, "--seed"))
            o->seed = strtoull(value, &end, 0);
        else if (!strcmp(name, "--rounds"))
            o->rounds_percent = (uint32_t)strtoul(value, &end, 10);
        else if (!strcmp(name, "--seconds"))
            o->seconds = strtod(value, &end);
        else
            return false;
        if (*end) return false;
        i++;
    }
    return !(o->bench && o->self_test) && o->rounds_percent > 0 && o->seconds > 0;
}

static int wanted(const options *o, cpl_isa isa, const cpl_cpu *cpu)
{
    return cpl_isa_runs(isa, cpu) && (!o->isa || !strcmp(o->isa, cpl_isa_name(isa)));
}

int main(int argc, char **argv)
{
    options o = {.seed = (uint64_t)time(NULL), .rounds_percent = 100, .seconds = 0.1};
    if (!parse(&o, argc, argv)) return usage(argv[0]);
    cpl_cpu cpu;
    cpl_isa isa_asked;
    cpl_error err;
    char features[200];
    cpl_cpu_detect(&cpu);
    cpl_cpu_feature_names(cpu.features, features, sizeof features);
    if (o.isa && cpl_isa_choose(&isa_asked, o.isa, &cpu, &err)) {
        fprintf(stderr, "kerncheck: %s\n", err.what);
        return err.status == CPL_UNSUPPORTED ? SKIPPED : WRONG_USAGE;
    }
    printf("seed %llu; %s: %s\n", (unsigned long long)o.seed, cpu.name, features);
    catch_faults();
    uint64_t failures = 0, ran = 0;
    for (int i = 0; i < CPL_ISA_COUNT; i++) {
        cpl_kernels k;
        if (!wanted(&o, (cpl_isa)i, &cpu)) continue;
        cpl_kernels_choose(&k, (cpl_isa)i);
        if (o.bench)
            failures += bench_kernels(&k, (cpl_isa)i, &o, &ran);
        else if (o.self_test)
            failures += check_the_checks(&k, cpl_isa_name((cpl_isa)i), &o, &ran);
        else
            failures += check_isa(&k, (cpl_isa)i, &o, &ran);
        fflush(stdout);
    }
    if (!ran) {
        fprintf(stderr, "kerncheck: no kernel fits --kernel %s\n", o.kernel ? o.kernel : "");
        return WRONG_USAGE;
    }
    if (failures) printf("%llu failures, seed %llu\n", (unsigned long long)failures, (unsigned long long)o.seed);
    return failures ? FAILED : 0;
}
