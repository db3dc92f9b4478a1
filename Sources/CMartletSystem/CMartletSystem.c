#define _GNU_SOURCE
#include "CMartletSystem.h"

int martlet_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    return accept4(fd, address, length, flags);
}

int martlet_fcntl_int(int fd, int command, int argument) { return fcntl(fd, command, argument); }

int martlet_open(const char *path, int flags, mode_t mode) { return open(path, flags, mode); }
