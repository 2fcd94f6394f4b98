/* SPDX-License-Identifier: Apache-2.0 */
/* priority.h - the calling thread ahead of others for a while, where the system allows it. */
#ifndef CPL_LOAD_PRIORITY_H
#define CPL_LOAD_PRIORITY_H

typedef struct cpl_priority {
    int policy, nice, level;
    int raised;       /* 0: nothing was changed */
    const char *name; /* "real-time", "nice -15", "normal": what it is now */
} cpl_priority;

/* Children that are made meanwhile don't inherit a real-time class. */
void cpl_priority_raise(cpl_priority *p);
void cpl_priority_restore(const cpl_priority *p);

#endif
