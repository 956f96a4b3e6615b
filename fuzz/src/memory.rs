//! Counts what a thread allocates.
//!
//! The count is the thread's own, so that targets can run beside each other. Who links this has the counting allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[derive(Debug)]
struct Counting;

#[derive(Clone, Copy, Debug)]
struct Count {
    bytes: usize,
    peak: usize,
}

thread_local! {
    static COUNT: Cell<Count> = const { Cell::new(Count { bytes: 0, peak: 0 }) };
}

fn note(taken: usize, given_back: usize) {
    // A thread that is ending has no count any more.
    let _ = COUNT.try_with(|cell| {
        let mut count = cell.get();
        count.bytes = (count.bytes + taken).saturating_sub(given_back);
        count.peak = count.peak.max(count.bytes);
        cell.set(count);
    });
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        note(0, layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size, layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a call answers, and the most bytes it held at a time.
pub fn peak<T>(call: impl FnOnce() -> T) -> (T, usize) {
    COUNT.set(Count { bytes: 0, peak: 0 });
    let result = call();
    (result, COUNT.get().peak)
}
