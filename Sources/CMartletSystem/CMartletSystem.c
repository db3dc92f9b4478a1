#define _GNU_SOURCE
#include "CMartletSystem.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

int martlet_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    return accept4(fd, address, length, flags);
}

int martlet_fcntl_int(int fd, int command, int argument) { return fcntl(fd, command, argument); }

int martlet_open(const char *path, int flags, mode_t mode) { return open(path, flags, mode); }

int martlet_fork(void) { return fork(); }

void martlet_ignore_signal(int number) { signal(number, SIG_IGN); }

int martlet_set_thread_name(pthread_t thread, const char *name) { return pthread_setname_np(thread, name); }

int martlet_get_open_files_limit(uint64_t *soft, uint64_t *hard) {
    struct rlimit limit = {0, 0};
    int result = getrlimit(RLIMIT_NOFILE, &limit);
    *soft = limit.rlim_cur;
    *hard = limit.rlim_max;
    return result;
}

int martlet_set_open_files_limit(uint64_t soft, uint64_t hard) {
    struct rlimit limit = {soft, hard};
    return setrlimit(RLIMIT_NOFILE, &limit);
}

int martlet_set_timer_slack(unsigned long nanoseconds) { return prctl(PR_SET_TIMERSLACK, nanoseconds, 0, 0, 0); }

// jemalloc's settings. An allocation of 8 MB and more would come from an arena of its own, which gives it back to the system
// in the thread that frees it: 30 ms for a string of 512 MB. Now it waits for the background thread like others.
const char *malloc_conf = "oversize_threshold:0";
