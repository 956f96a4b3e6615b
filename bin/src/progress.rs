//! Progress on a terminal's stderr; nothing elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over bytes.
pub(crate) fn bytes(total: u64, what: &str) -> ProgressBar {
    bar(
        total,
        what,
        "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    )
}

/// A bar over events.
pub(crate) fn events(total: u64, what: &str) -> ProgressBar {
    bar(
        total,
        what,
        "{msg} [{bar:30}] {human_pos}/{human_len} {per_sec} {eta}",
    )
}

/// A bar over files, whose number is told later.
pub(crate) fn files(what: &str) -> ProgressBar {
    bar(
        0,
        what,
        "{msg} [{bar:30}] {human_pos}/{human_len} files {eta}",
    )
}

/// Signs of life for work of unknown length.
pub(crate) fn spinner(what: &str) -> ProgressBar {
    let spinner = bar(0, what, "{spinner} {msg} {elapsed}");
    spinner.enable_steady_tick(std::time::Duration::from_millis(120));
    spinner
}

fn bar(total: u64, what: &str, template: &str) -> ProgressBar {
    // The target is hidden by indicatif where stderr is no terminal.
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template(template).expect("the templates are ours");
    bar.set_style(style.progress_chars("=> "));
    bar.set_message(what.to_owned());
    bar
}
