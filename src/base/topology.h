/* SPDX-License-Identifier: Apache-2.0 */
/* topology.h - which memory is near which CPUs: the machine's NUMA nodes, as far as this process may use them, and
 * where threads go on them. A plain value, so that tests give their own. */
#ifndef CPL_BASE_TOPOLOGY_H
#define CPL_BASE_TOPOLOGY_H

#include <stdint.h>

enum { CPL_TOPOLOGY_CPUS = 1024, CPL_TOPOLOGY_NODES = 64 };

typedef struct cpl_topology {
    uint32_t nodes;                         /* at least 1 */
    uint32_t cpus;                          /* usable ones, 0 when not even that is known */
    uint16_t node_of[CPL_TOPOLOGY_CPUS];    /* by position in cpu: node, counted from 0 over usable ones, rising */
    int cpu[CPL_TOPOLOGY_CPUS];             /* numbers of the usable CPUs, node by node */
    uint16_t number[CPL_TOPOLOGY_NODES];    /* the system's number of each node */
    uint32_t first[CPL_TOPOLOGY_NODES + 1]; /* node n has the CPUs at [first[n], first[n + 1]) */
} cpl_topology;

/* Reads ROOT/nodeN/cpulist (NULL: /sys/devices/system/node) and keeps what the affinity mask allows. One node with all
 * usable CPUs where there is nothing to read, or nothing that makes sense. */
void cpl_topology_read(cpl_topology *out, const char *root);
/* Any list of CPUs, for what node each is on; nodes rise from 0 without gaps. What cpl_topology_read ends with. */
void cpl_topology_make(cpl_topology *out, const int *cpus, const uint16_t *nodes, uint32_t n);

/* Nodes that `threads` threads are put on: as few as hold them with a CPU each, all when there are more threads. */
uint32_t cpl_topology_nodes_for(const cpl_topology *t, uint32_t threads);
/* Thread k of `threads`: its node, and its CPU (-1: none known). On each of the nodes used a share by its CPUs. */
uint32_t cpl_topology_place(const cpl_topology *t, uint32_t threads, uint32_t k, int *cpu);
/* Lets the calling thread run on the CPUs of that node only. What it touches first is that node's memory then. */
void cpl_topology_stay(const cpl_topology *t, uint32_t node);

#endif
