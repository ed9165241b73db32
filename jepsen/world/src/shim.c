/*
 * Faults inside of one node, loaded by LD_PRELOAD and steered at run time through a page that is mapped from a file.
 *
 * A sync of a file below ALLUVIUM_WORLD_DIR fails once when the page says so, and from then on syncs of that file lie:
 * they say that they worked and write nothing, as a kernel does that marked the pages clean. Wall time is what the page
 * says; monotonic time is never touched. Whatever is done is counted in the page, which is how a fault is observed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct course {
    int64_t real_ns, shown_ns, rate_ppm;
};

/* The page: shim.rs writes it by these offsets. */
struct page {
    atomic_int_fast64_t fail_syncs;    /* 0: how many syncs are still to fail */
    atomic_int_fast64_t failed_syncs;  /* 8 */
    atomic_int_fast64_t lied_syncs;    /* 16 */
    atomic_int_fast64_t seen_syncs;    /* 24 */
    atomic_int_fast64_t shown_clocks;  /* 32: how often a wall time was shown that is not the machine's */
    atomic_int_fast64_t course;        /* 40: 0 is the machine's time, else courses[course - 1] */
    struct course courses[2];          /* 48, 72 */
    char filter[64];                   /* 96: only syncs of files with this in their path fail */
    char failed_path[512];             /* 160 */
};

static struct page *page;
static const char *dir;
static size_t dir_length;
static atomic_uint_fast64_t lying_device, lying_inode;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
static int (*real_clock)(clockid_t, struct timespec *);

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("ALLUVIUM_WORLD_PAGE");
    dir = getenv("ALLUVIUM_WORLD_DIR");
    dir_length = dir ? strlen(dir) : 0;
    real_clock = REAL(clock_gettime);
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED) page = mapped;
    close(fd);
}

/* Whether this call is the one that fails; takes it when it is. */
static int fails(int fd) {
    char link[64], path[PATH_MAX];
    if (atomic_load(&page->fail_syncs) <= 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    if (strncmp(path, dir, dir_length) || !strstr(path, page->filter)) return 0;
    if (atomic_fetch_sub(&page->fail_syncs, 1) <= 0) {
        atomic_fetch_add(&page->fail_syncs, 1);
        return 0;
    }
    size_t kept = (size_t)length < sizeof page->failed_path ? (size_t)length : sizeof page->failed_path - 1;
    memcpy(page->failed_path, path, kept);
    page->failed_path[kept] = 0;
    return 1;
}

static int sync_call(int (*real)(int), int fd) {
    struct stat status;
    if (!page || !dir_length) return real(fd);
    atomic_fetch_add(&page->seen_syncs, 1);
    if (atomic_load(&lying_inode) && !fstat(fd, &status) && status.st_ino == atomic_load(&lying_inode) &&
        status.st_dev == atomic_load(&lying_device)) {
        atomic_fetch_add(&page->lied_syncs, 1);
        return 0;
    }
    if (!fails(fd)) return real(fd);
    if (!fstat(fd, &status)) {
        atomic_store(&lying_device, status.st_dev);
        atomic_store(&lying_inode, status.st_ino);
    }
    atomic_fetch_add(&page->failed_syncs, 1);
    errno = EIO;
    return -1;
}
int fsync(int fd) { return sync_call(REAL(fsync), fd); }
int fdatasync(int fd) { return sync_call(REAL(fdatasync), fd); }

static void show(struct timespec *time) {
    int64_t which = page ? atomic_load(&page->course) : 0;
    if (which != 1 && which != 2) return;
    struct course course = page->courses[which - 1];
    int64_t now = time->tv_sec * INT64_C(1000000000) + time->tv_nsec;
    int64_t shown = course.shown_ns + (int64_t)((__int128)(now - course.real_ns) * course.rate_ppm / 1000000);
    time->tv_sec = shown / INT64_C(1000000000);
    time->tv_nsec = shown % INT64_C(1000000000);
    atomic_fetch_add(&page->shown_clocks, 1);
}

int clock_gettime(clockid_t which, struct timespec *time) {
    if (!real_clock) real_clock = REAL(clock_gettime);
    int result = real_clock(which, time);
    if (!result && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) show(time);
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

/*
 * Who waits until a wall time has taken it from the clock above, and the kernel compares it with its own: without this a
 * clock that is behind turns every such wait into a spin. A monotonic time is far smaller than any wall time.
 */
static const struct timespec *true_deadline(const struct timespec *shown, struct timespec *place) {
    int64_t which = page ? atomic_load(&page->course) : 0;
    if ((which != 1 && which != 2) || !shown || shown->tv_sec < 1000000000) return shown;
    struct timespec real, now;
    real_clock(CLOCK_REALTIME, &real);
    now = real;
    show(&now);
    int64_t rate_ppm = page->courses[which - 1].rate_ppm;
    __int128 left = (__int128)(shown->tv_sec - now.tv_sec) * 1000000000 + shown->tv_nsec - now.tv_nsec;
    __int128 at = (__int128)real.tv_sec * 1000000000 + real.tv_nsec + left * 1000000 / rate_ppm;
    if (at < 0) at = 0;
    place->tv_sec = at / 1000000000;
    place->tv_nsec = at % 1000000000;
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
