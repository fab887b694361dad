//! Progress shown to the user, on standard error and only in a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output;

/// Update interval of the spinner.
const TICK: Duration = Duration::from_millis(120);

/// A status line, removed when dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    shown: bool,
    quiet: bool,
}

impl Progress {
    /// A spinner with a text; nothing without a terminal or when `quiet`.
    pub fn new(text: &str, quiet: bool) -> Self {
        let shown = !quiet && output::stderr_is_terminal();
        let bar = if shown {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(TICK);
            bar
        } else {
            ProgressBar::hidden()
        };
        let progress = Self { bar, shown, quiet };
        progress.say(text);
        progress
    }

    /// Whether the line is visible; if not, no progress needs to be queried.
    pub fn is_shown(&self) -> bool {
        self.shown
    }

    /// A note that stays, above the line; nothing when `quiet`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.bar.suspend(|| output::note(text));
        }
    }

    /// Changes the text.
    pub fn say(&self, text: &str) {
        self.bar.set_message(output::clean(text).into_owned());
    }

    /// Turns the spinner into a bar of tokens.
    pub fn tokens(&self, text: &str, done: u64, of: u64) {
        self.measured(
            text,
            done,
            of,
            "{spinner} {msg} {bar:24} {pos}/{len} tokens",
        );
    }

    /// Turns the spinner into a bar of bytes.
    pub fn bytes(&self, text: &str, done: u64, of: u64) {
        self.measured(
            text,
            done,
            of,
            "{spinner} {msg} {bar:24} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}, {eta} left",
        );
    }

    /// Turns the spinner into a bar of a share, 0 to 1.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share is shown in percent"
    )]
    pub fn percent(&self, text: &str, share: f64) {
        let done = (share.clamp(0.0, 1.0) * 100.0) as u64;
        self.measured(text, done, 100, "{spinner} {msg} {bar:24} {pos} %");
    }

    /// Turns the spinner into a bar of steps.
    pub fn steps(&self, text: &str, done: u64, of: u64) {
        self.measured(
            text,
            done,
            of,
            "{spinner} {bar:24} {pos}/{len} {msg}, {eta} left",
        );
    }

    /// Turns it back into a spinner.
    pub fn spin(&self, text: &str) {
        self.bar.set_style(ProgressStyle::default_spinner());
        self.bar.unset_length();
        self.say(text);
    }

    /// Removes the line, before the answer is printed.
    pub fn clear(&mut self) {
        // Only once: a second time could remove a line of the answer.
        if self.shown {
            self.bar.finish_and_clear();
            self.shown = false;
        }
    }

    fn measured(&self, text: &str, done: u64, of: u64, template: &str) {
        // The style is set last, so that the bar is never drawn with old numbers.
        self.say(text);
        self.bar.set_position(done.min(of));
        if self.bar.length() != Some(of)
            && let Ok(style) = ProgressStyle::with_template(template)
        {
            self.bar.set_length(of);
            self.bar.set_style(style);
            // The previous steps say nothing about the speed.
            self.bar.reset_eta();
        }
    }
}

/// Offline work: a spinner, then a bar of steps.
impl hearth_lab::Progress for Progress {
    fn begin(&self, step: &str) {
        self.spin(step);
    }

    fn steps(&self, step: &str, done: u64, total: u64) {
        self.steps(step, done, total);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
