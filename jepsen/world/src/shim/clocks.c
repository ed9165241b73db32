/*
 * Clocks of one node's own: wall time and monotonic time, each by a course of the page.
 *
 * Who waits until a time has taken it from the clock here, and the kernel compares it with its own: without a
 * translation a clock that is behind turns every such wait into a spin, and one that is ahead into a sleep without end.
 * Who waits for a while waits by its own clock too. Monotonic time never goes back, whatever the course says.
 */
#include "page.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)
#define TRUE_RATE INT64_C(1000000)
/* Seconds beyond which nobody waits in earnest, and nanoseconds would not fit. */
#define FAR 4000000000

static int64_t to_ns(const struct timespec *time) { return time->tv_sec * SECOND + time->tv_nsec; }

static void from_ns(int64_t ns, struct timespec *time) {
    if (ns < 0) ns = 0;
    time->tv_sec = ns / SECOND;
    time->tv_nsec = ns % SECOND;
}

static int on_course(struct clock *clock, struct course *course) {
    int64_t which = alluvium_page ? atomic_load(&clock->which) : 0;
    if (which != 1 && which != 2) return 0;
    *course = clock->courses[which - 1];
    return course->rate_ppm > 0;
}

static int64_t bent(const struct course *course, int64_t real_ns) {
    return course->shown_ns + (int64_t)((__int128)(real_ns - course->real_ns) * course->rate_ppm / TRUE_RATE);
}

static int real_time(clockid_t which, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = REAL(clock_gettime);
    return real(which, time);
}

/* Monotonic time is never less than it was to any thread. */
static int64_t not_before(int64_t shown_ns) {
    static atomic_int_fast64_t last;
    int_fast64_t seen = atomic_load(&last);
    while (shown_ns > seen && !atomic_compare_exchange_weak(&last, &seen, shown_ns)) {
    }
    return shown_ns > seen ? shown_ns : seen;
}

static void show(struct clock *clock, int is_steady, struct timespec *time) {
    struct course course;
    if (!on_course(clock, &course)) return;
    int64_t real_ns = to_ns(time), shown_ns = bent(&course, real_ns);
    if (is_steady) shown_ns = not_before(shown_ns);
    from_ns(shown_ns, time);
    atomic_store(&clock->last_real_ns, real_ns);
    atomic_store(&clock->last_shown_ns, shown_ns);
    atomic_fetch_add(&clock->shown, 1);
}

int clock_gettime(clockid_t which, struct timespec *time) {
    int result = real_time(which, time);
    if (result || !alluvium_page) return result;
    switch (which) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE: show(&alluvium_page->wall, 0, time); break;
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_COARSE: show(&alluvium_page->steady, 1, time); break;
    }
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

/* A time that was shown, as the kernel has it. Which clock it is of shows in its size: no machine is up since 1970. */
static const struct timespec *true_deadline(const struct timespec *shown, struct timespec *place) {
    struct course course;
    if (!shown || shown->tv_sec > FAR || !alluvium_page) return shown;
    int is_wall = shown->tv_sec >= 1000000000;
    if (!on_course(is_wall ? &alluvium_page->wall : &alluvium_page->steady, &course)) return shown;
    struct timespec real;
    real_time(is_wall ? CLOCK_REALTIME : CLOCK_MONOTONIC, &real);
    int64_t left = to_ns(shown) - bent(&course, to_ns(&real));
    from_ns(to_ns(&real) + (int64_t)((__int128)left * TRUE_RATE / course.rate_ppm), place);
    return place;
}

/* A while by the node's monotonic clock, as the kernel has it. */
static const struct timespec *true_while(const struct timespec *shown, struct timespec *place) {
    struct course course;
    if (!shown || shown->tv_sec > FAR || !alluvium_page || !on_course(&alluvium_page->steady, &course)) return shown;
    from_ns((int64_t)((__int128)to_ns(shown) * TRUE_RATE / course.rate_ppm), place);
    return place;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict deadline) {
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec place;
    /* The oldest version, which dlsym may find, has another kind of condition variable. */
    if (!real) real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real) real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    return real(cond, mutex, true_deadline(deadline, &place));
}

int pthread_cond_clockwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex, clockid_t which,
                           const struct timespec *restrict deadline) {
    static __typeof__(&pthread_cond_clockwait) real;
    struct timespec place;
    if (!real) real = REAL(pthread_cond_clockwait);
    return real(cond, mutex, which, true_deadline(deadline, &place));
}

int clock_nanosleep(clockid_t which, int flags, const struct timespec *time, struct timespec *left) {
    static __typeof__(&clock_nanosleep) real;
    struct timespec place;
    if (!real) real = REAL(clock_nanosleep);
    if (flags & TIMER_ABSTIME) return real(which, flags, true_deadline(time, &place), left);
    return real(which, flags, true_while(time, &place), left);
}

int nanosleep(const struct timespec *time, struct timespec *left) {
    static __typeof__(&nanosleep) real;
    struct timespec place;
    if (!real) real = REAL(nanosleep);
    return real(true_while(time, &place), left);
}

int epoll_wait(int fd, struct epoll_event *events, int most, int timeout_ms) {
    static __typeof__(&epoll_wait) real;
    if (!real) real = REAL(epoll_wait);
    if (timeout_ms > 0) {
        struct timespec shown, place;
        from_ns(timeout_ms * INT64_C(1000000), &shown);
        timeout_ms = (int)((to_ns(true_while(&shown, &place)) + 999999) / 1000000);
    }
    return real(fd, events, most, timeout_ms);
}

/* The standard library of Rust and parking_lot wait on futexes by themselves: until a time, or for a while. */
long syscall(long number, ...) {
    static long (*real)(long, ...);
    long words[6];
    va_list rest;
    va_start(rest, number);
    for (int at = 0; at < 6; at++) words[at] = va_arg(rest, long);
    va_end(rest);
    if (!real) real = REAL(syscall);
    struct timespec place;
    const struct timespec *time = (const struct timespec *)words[3];
    int command = (int)words[1] & FUTEX_CMD_MASK;
    if (number == SYS_futex && time && command == FUTEX_WAIT_BITSET) {
        words[3] = (long)true_deadline(time, &place);
    } else if (number == SYS_futex && time && command == FUTEX_WAIT) {
        words[3] = (long)true_while(time, &place);
    }
    return real(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}
