// Linux calls and macros that Swift cannot import as they are: variadics, feature-gated prototypes, prefetch.
// Declarations only wrap one call each; there is no logic here.
#ifndef C_MARTLET_SYSTEM_H
#define C_MARTLET_SYSTEM_H

// No feature macro here: it would change glibc's types, and Swift refuses types that differ from those of its own Glibc
// module. Prototypes that need _GNU_SOURCE are called in the .c file only.
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>

/// accept4(2), which Glibc hides behind _GNU_SOURCE.
int martlet_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
/// fcntl(2) with an integer argument: variadic functions are not imported.
int martlet_fcntl_int(int fd, int command, int argument);
/// open(2) with a mode: variadic functions are not imported.
int martlet_open(const char *path, int flags, mode_t mode);
/// fork(2), which Swift marks unavailable. Only for daemonising, before any thread exists.
int martlet_fork(void);
/// signal(number, SIG_IGN): the cast macro is not imported.
void martlet_ignore_signal(int number);
/// pthread_setname_np(3) for a thread by its id; at most 15 bytes count.
int martlet_set_thread_name(pthread_t thread, const char *name);
/// prctl(PR_SET_TIMERSLACK) of the calling thread: variadic functions are not imported.
int martlet_set_timer_slack(unsigned long nanoseconds);
/// getrlimit/setrlimit of RLIMIT_NOFILE: the resource is an enum in C and an int in Swift's eyes.
int martlet_get_open_files_limit(uint64_t *soft, uint64_t *hard);
int martlet_set_open_files_limit(uint64_t soft, uint64_t hard);

#endif
