/* SPDX-License-Identifier: Apache-2.0 */
/* test_topology.c - nodes from files as the kernel writes them, and where threads are put on made-up machines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/thread.h"
#include "base/topology.h"

static void machine(cpl_topology *t, uint32_t nodes, uint32_t cpus_each)
{
    int cpus[CPL_TOPOLOGY_CPUS];
    uint16_t of[CPL_TOPOLOGY_CPUS];
    for (uint32_t i = 0; i < nodes * cpus_each; i++) { /* numbered in turn over the nodes, as some machines do */
        cpus[i] = (int)i;
        of[i] = (uint16_t)(i % nodes * 2); /* node numbers with gaps */
    }
    cpl_topology_make(t, cpus, of, nodes * cpus_each);
}

static void nodes_are_grouped(void **state)
{
    (void)state;
    static cpl_topology t;
    machine(&t, 3, 4);
    assert_int_equal(t.nodes, 3);
    assert_int_equal(t.cpus, 12);
    for (uint32_t n = 0; n < 3; n++) {
        assert_int_equal(t.number[n], 2 * n);
        assert_int_equal(t.first[n + 1] - t.first[n], 4);
        for (uint32_t i = t.first[n]; i < t.first[n + 1]; i++) assert_int_equal(t.cpu[i] % 3, n);
    }
    cpl_topology_make(&t, NULL, NULL, 0);
    assert_int_equal(t.nodes, 1);
    int cpu = 5;
    assert_int_equal(cpl_topology_place(&t, 4, 3, &cpu), 0);
    assert_int_equal(cpu, -1);
}

/* Any machine, any number of threads: no CPU twice while there are enough, as few nodes as hold them, evenly. */
static void threads_are_spread(void **state)
{
    (void)state;
    static cpl_topology t;
    for (uint32_t nodes = 1; nodes <= 4; nodes++) {
        for (uint32_t each = 1; each <= 9; each++) {
            machine(&t, nodes, each);
            for (uint32_t threads = 1; threads <= 2 * nodes * each; threads++) {
                uint32_t used = cpl_topology_nodes_for(&t, threads), on[4] = {0}, times[64] = {0};
                assert_int_equal(used, threads >= nodes * each ? nodes : (threads + each - 1) / each);
                for (uint32_t k = 0; k < threads; k++) {
                    int cpu;
                    uint32_t node = cpl_topology_place(&t, threads, k, &cpu);
                    assert_true(node < used && cpu >= 0);
                    assert_int_equal((uint32_t)cpu % nodes, node);
                    on[node]++;
                    times[cpu]++;
                }
                for (uint32_t c = 0; c < nodes * each; c++)
                    assert_true(times[c] <= (threads + nodes * each - 1) / (nodes * each));
                for (uint32_t n = 0; n < used; n++) assert_in_range(on[n], threads / used, (threads + used - 1) / used);
            }
        }
    }
}

static void put(const char *root, int node, const char *text)
{
    char path[300];
    snprintf(path, sizeof path, "%s/node%d", root, node);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/node%d/cpulist", root, node);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void drop(const char *root, int node)
{
    char path[300];
    snprintf(path, sizeof path, "%s/node%d/cpulist", root, node);
    unlink(path);
    snprintf(path, sizeof path, "%s/node%d", root, node);
    rmdir(path);
}

static void files_are_read(void **state)
{
    (void)state;
    static cpl_topology t;
    char root[] = "/tmp/couplet-topology-XXXXXX", text[64];
    int cpus[CPL_TOPOLOGY_CPUS];
    uint32_t n = cpl_cpu_list(cpus, CPL_TOPOLOGY_CPUS);
    assert_non_null(mkdtemp(root));
    cpl_topology_read(&t, root); /* nothing there */
    assert_int_equal(t.nodes, 1);
    assert_int_equal(t.cpus, n);
    snprintf(text, sizeof text, "%d\n", cpus[0]);
    put(root, 3, text);
    put(root, 0, "\n");
    put(root, 7, "900-1023,1-x");
    cpl_topology_read(&t, root);
    assert_int_equal(t.cpus, n); /* what no file names is on node 0 */
    assert_int_equal(t.nodes, n > 1 ? 2 : 1);
    assert_int_equal(t.number[t.nodes - 1], 3);
    assert_int_equal(t.cpu[t.cpus - 1], cpus[0]);
    for (int node = 0; node < 8; node++) drop(root, node);
    rmdir(root);
    cpl_topology_read(&t, NULL); /* this machine */
    assert_true(t.nodes >= 1 && t.cpus == n);
    cpl_topology_stay(&t, 0);
    assert_int_equal(cpl_cpu_list(NULL, 0), t.first[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_are_grouped),
        cmocka_unit_test(threads_are_spread),
        cmocka_unit_test(files_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
