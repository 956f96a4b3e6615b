//! How the allocator holds memory for a server, which lives long.
//!
//! glibc gives threads up to eight arenas a core, and what is free in one serves no other; and it keeps ever larger pieces
//! in them once such were freed. A server that reads a long backlog of Kafka takes a fifth more memory for that.

/// Pieces from here on go back to the system when they are freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const RETURNED_BYTES: i32 = 1 << 20;

/// Bounds what the allocator keeps, unless the environment tells it otherwise; to be called while there is one thread.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn bound() {
    let told = |name| std::env::var_os(name).is_some();
    if told("MALLOC_ARENA_MAX") || told("MALLOC_MMAP_THRESHOLD_") || told("GLIBC_TUNABLES") {
        return;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let arenas = i32::try_from(2 * cores).unwrap_or(i32::MAX);
    // SAFETY: it sets numbers of the allocator's, and no other thread allocates yet. What it answers is of no use: without
    // it more is kept.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, arenas);
        libc::mallopt(libc::M_MMAP_THRESHOLD, RETURNED_BYTES);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn bound() {}
