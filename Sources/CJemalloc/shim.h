// jemalloc's extended interface, and the processor hint that goes with laying memory out by hand.
#include <jemalloc/jemalloc.h>

/// Asks the processor for a cache line: a compiler builtin that Swift does not offer.
static inline void martlet_prefetch(const void *address) { __builtin_prefetch(address); }
