//! What happened in a run, in order: who had each turn, every change of the disk, every call and its answer.
//!
//! Two runs of one seed must have the same trace, byte for byte.

use std::cell::RefCell;
use std::fmt::{Arguments, Write as _};

use modelog_simulated_engine::threads::time;

thread_local! {
    static TRACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Begins a run.
pub(crate) fn begin() {
    TRACE.with_borrow_mut(String::clear);
}

/// Everything so far.
pub(crate) fn whole() -> String {
    TRACE.with_borrow(Clone::clone)
}

/// A task has the turn.
pub(crate) fn turn(task: usize) {
    TRACE.with_borrow_mut(|trace| {
        let _ = write!(trace, "{task} ");
    });
}

/// Something happened, in the current task.
pub(crate) fn note(what: Arguments<'_>) {
    let task = shuttle::current::try_get_current_task().map(usize::from);
    let now = time::now().as_micros();
    TRACE.with_borrow_mut(|trace| {
        let _ = write!(trace, "\n[{now} µs, task {}] {what}\n", task.unwrap_or(0));
    });
}

/// The last things that happened, turns left out.
pub(crate) fn last(lines: usize) -> String {
    let whole = whole();
    let told: Vec<_> = whole.lines().filter(|line| line.starts_with('[')).collect();
    told[told.len().saturating_sub(lines)..].join("\n")
}

macro_rules! say {
    ($($what:tt)*) => { $crate::trace::note(format_args!($($what)*)) };
}
pub(crate) use say;
