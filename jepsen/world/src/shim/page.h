/*
 * The page between a node and its harness, and what both halves of the shim share.
 *
 * The harness maps nothing: it writes the file by these offsets, which shim.rs repeats. Whatever is done is counted here,
 * which is how a fault is observed.
 */
#ifndef ALLUVIUM_PAGE_H
#define ALLUVIUM_PAGE_H
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdint.h>

/* From real_ns on, time is shown_ns and runs at rate_ppm millionths of the true speed. */
struct course {
    int64_t real_ns, shown_ns, rate_ppm;
};

/* A clock: 0 is the machine's time, else courses[which - 1]. Whoever writes a course writes the one that is not in use. */
struct clock {
    atomic_int_fast64_t which;
    atomic_int_fast64_t shown; /* how often a time was shown that is not the machine's */
    struct course courses[2];
    atomic_int_fast64_t last_real_ns, last_shown_ns; /* the last reading */
};

/* Calls that are caught: those of files with `filter` in their path, after `skip` others, as long as some are left. */
struct trap {
    atomic_int_fast64_t left, caught, skip;
    char filter[64];
    char path[512]; /* the file of the last one */
};

enum { SYNCS, WRITES, READS, LIES, TRAPS };

struct page {
    struct clock wall, steady; /* 0, 80 */
    struct trap traps[TRAPS];  /* 160, 760, 1360, 1960 */
};

extern struct page *alluvium_page;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#endif
