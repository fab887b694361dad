//! What a waiting person sees, on standard error and only in a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output;

/// How often the spinner moves.
const TICK: Duration = Duration::from_millis(120);

/// A line that says what is going on; gone when dropped.
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

    /// Whether anyone sees it; if not, nothing needs to be asked for it.
    pub fn is_shown(&self) -> bool {
        self.shown
    }

    /// A remark that stays, above the line; nothing when `quiet`.
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

    /// Takes the line away; the answer comes.
    pub fn clear(&mut self) {
        // Once only: a second time could take away a line of the answer.
        if self.shown {
            self.bar.finish_and_clear();
            self.shown = false;
        }
    }

    fn measured(&self, text: &str, done: u64, of: u64, template: &str) {
        // The style last: the bar must not be drawn with old numbers.
        self.say(text);
        self.bar.set_position(done.min(of));
        if self.bar.length() != Some(of)
            && let Ok(style) = ProgressStyle::with_template(template)
        {
            self.bar.set_length(of);
            self.bar.set_style(style);
            // What was there before says nothing of the speed.
            self.bar.reset_eta();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
