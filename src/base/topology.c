/* SPDX-License-Identifier: Apache-2.0 */
/* topology.c - NUMA nodes from the files in which the kernel says them, and where threads go.
 *
 * The one idea: a thread that stays on a node's CPUs gets that node's memory by touching it first, which is the
 * kernel's own default. So no memory policy is set, one that was set from outside (numactl) is respected, and what
 * remains is to know which CPUs are together: a few lines of text, not worth a library.
 *
 * Threads fill as few nodes as hold them with a CPU each, since every node used costs a copy of the weights, and spread
 * evenly by CPUs over those. Threads: any; no state. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "base/topology.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/system.h"
#include "base/thread.h"

void cpl_topology_make(cpl_topology *out, const int *cpus, const uint16_t *nodes, uint32_t n)
{
    memset(out, 0, sizeof *out);
    for (uint32_t number = 0; number < CPL_TOPOLOGY_NODES; number++) {
        out->first[out->nodes] = out->cpus;
        for (uint32_t i = 0; i < n && out->cpus < CPL_TOPOLOGY_CPUS; i++) {
            if (nodes[i] != number) continue;
            out->node_of[out->cpus] = (uint16_t)out->nodes;
            out->cpu[out->cpus++] = cpus[i];
        }
        if (out->cpus > out->first[out->nodes]) out->number[out->nodes++] = (uint16_t)number;
    }
    if (!out->nodes) out->nodes = 1;
    out->first[out->nodes] = out->cpus;
}

/* Sets of[cpu] to `node` for each CPU in "0-3,8,10-11". */
static void read_list(FILE *f, uint16_t node, uint16_t *of)
{
    unsigned from, to;
    while (fscanf(f, "%u", &from) == 1) {
        int c = fgetc(f);
        to = from;
        if (c == '-') {
            if (fscanf(f, "%u", &to) != 1) return;
            c = fgetc(f);
        }
        for (unsigned i = from; i <= to && i < CPL_TOPOLOGY_CPUS; i++) of[i] = node;
        if (c != ',') return;
    }
}

void cpl_topology_read(cpl_topology *out, const char *root)
{
    int cpus[CPL_TOPOLOGY_CPUS];
    uint16_t of[CPL_TOPOLOGY_CPUS], nodes[CPL_TOPOLOGY_CPUS];
    uint32_t n = cpl_cpu_list(cpus, CPL_TOPOLOGY_CPUS);
    if (n > CPL_TOPOLOGY_CPUS) n = CPL_TOPOLOGY_CPUS;
    memset(of, 0, sizeof of); /* a CPU that no file names is on node 0 */
    for (uint16_t node = 0; node < CPL_TOPOLOGY_NODES; node++) {
        char path[512];
        snprintf(path, sizeof path, "%s/node%u/cpulist", root ? root : "/sys/devices/system/node", node);
        FILE *f = fopen(path, "re");
        if (!f) continue; /* numbers may have gaps */
        read_list(f, node, of);
        fclose(f);
    }
    for (uint32_t i = 0; i < n; i++) nodes[i] = cpus[i] < CPL_TOPOLOGY_CPUS ? of[cpus[i]] : 0;
    cpl_topology_make(out, cpus, nodes, n);
}

uint32_t cpl_topology_nodes_for(const cpl_topology *t, uint32_t threads)
{
    uint32_t n = 1;
    while (n < t->nodes && t->first[n] < threads) n++;
    return n;
}

uint32_t cpl_topology_place(const cpl_topology *t, uint32_t threads, uint32_t k, int *cpu)
{
    uint32_t nodes = cpl_topology_nodes_for(t, threads), cpus = t->first[nodes];
    *cpu = -1;
    if (!cpus) return 0;
    uint32_t whole = threads / cpus * cpus;
    if (k < whole) {
        *cpu = t->cpu[k % cpus];
        return t->node_of[k % cpus];
    }
    /* fewer than CPUs are left: node n has those whose share of all CPUs begins in it */
    uint64_t rest = threads - whole, at = k - whole;
    uint32_t node = t->node_of[at * cpus / rest], before = 0;
    while (before < at && t->node_of[(at - before - 1) * cpus / rest] == node) before++;
    *cpu = t->cpu[t->first[node] + before];
    return node;
}

void cpl_topology_stay(const cpl_topology *t, uint32_t node)
{
    cpl_system_stay_on(t->cpu + t->first[node], t->first[node + 1] - t->first[node]); /* a hint */
}
