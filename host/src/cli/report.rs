//! What wpool says on stderr: its own lines, lines of guests, progress. Text that a guest or an input has
//! chosen reaches the terminal escaped.

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::choices::{ProgressForm, UseColor};
use super::stdio;
use crate::escape::{OneLine, pieces, shortened};
use crate::module::Compiling;

/// Characters that are shown of a module's file name.
const NAME_MAX: usize = 40;

/// A compilation that takes longer than this is reported.
const COMPILES_LONG: Duration = Duration::from_secs(1);

/// Clears the current line of a terminal.
const CLEAR: &[u8] = b"\r\x1b[2K";

/// Says things on stderr.
#[derive(Debug, Clone)]
pub(super) struct Report {
    quiet: bool,
    verbose: bool,
    color: bool,
    bar: Option<ProgressBar>,
    /// The bar is drawn.
    is_shown: Arc<AtomicBool>,
    /// A compilation has been reported, and its end has not.
    is_compiling: Arc<AtomicBool>,
}

impl Report {
    pub(super) fn new(quiet: bool, verbose: bool, color: UseColor) -> Report {
        let color = match color {
            UseColor::Always => true,
            UseColor::Never => false,
            UseColor::Auto => wants_color(),
        };
        Report { quiet, verbose, color, bar: None, is_shown: Arc::default(), is_compiling: Arc::default() }
    }

    /// Says what went wrong.
    pub(super) fn error(&self, text: &str) {
        self.say("31", text);
    }

    /// Says why a task has failed, with further lines about it, in one write.
    pub(super) fn failure(&self, text: &str, further: &[String]) {
        let text = self.marked("31", text);
        self.line(&further.iter().fold(text, |text, line| text + "\n" + line));
    }

    /// Says what may be wrong, unless `--quiet`.
    pub(super) fn warn(&self, text: &str) {
        if !self.quiet {
            self.say("33", &format!("warning: {text}"));
        }
    }

    /// Says what every user should know, unless `--quiet`.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            self.line(&shortened(text));
        }
    }

    /// Says more, with `--verbose`.
    pub(super) fn detail(&self, text: &str) {
        if self.verbose {
            self.say("2", &shortened(text));
        }
    }

    pub(super) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Writes the program's name, then the text on one line. The caller has shortened the parts that a guest
    /// or an input has chosen.
    fn say(&self, color: &str, text: &str) {
        self.line(&self.marked(color, text));
    }

    fn marked(&self, color: &str, text: &str) -> String {
        // `OneLine` does not change text that is escaped already.
        let text = OneLine(text.trim_end());
        if self.color { format!("\x1b[{color}mwpool:\x1b[0m {text}") } else { format!("wpool: {text}") }
    }

    /// Writes lines as they are, in one write, so that lines of several threads do not mix.
    pub(super) fn line(&self, text: &str) {
        let text = format!("{text}\n");
        match &self.bar {
            Some(bar) => bar.suspend(|| stdio::say(text.as_bytes())),
            None => stdio::say(text.as_bytes()),
        }
    }

    /// Writes lines that each end with a newline. An empty text writes nothing.
    pub(super) fn lines(&self, text: &str) {
        if let Some(text) = text.strip_suffix('\n') {
            self.line(text);
        }
    }

    /// Reports a long compilation: on a terminal as a line that is redrawn until the end, elsewhere once.
    pub(super) fn compiling(&self, compiling: &Compiling) {
        let is_drawn = std::io::stderr().is_terminal() && !is_dumb();
        if compiling.is_done {
            if self.is_compiling.swap(false, Ordering::Relaxed) && is_drawn {
                stdio::say(CLEAR);
            }
        } else if !self.quiet && compiling.elapsed >= COMPILES_LONG {
            let is_first = !self.is_compiling.swap(true, Ordering::Relaxed);
            if is_drawn {
                stdio::say(&[CLEAR, compilation(compiling).as_bytes()].concat());
            } else if is_first {
                self.say("2", &compilation(compiling));
            }
        }
    }

    /// The same report with progress, if stderr is a terminal. `--progress none` hides it until SIGUSR2.
    pub(super) fn with_progress(&self, form: ProgressForm) -> Report {
        let style = match form {
            ProgressForm::None | ProgressForm::Auto | ProgressForm::Bar => {
                "{spinner} {pos} done{msg} [{elapsed}, {rate}]"
            }
            ProgressForm::Counter => "{pos} done{msg} [{elapsed}]",
        };
        let mut report = self.clone();
        if self.quiet || !std::io::stderr().is_terminal() || is_dumb() {
            return report;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(bar_style(style));
        bar.enable_steady_tick(Duration::from_millis(200));
        report.bar = Some(bar);
        if form != ProgressForm::None {
            report.toggle_progress();
        }
        report
    }

    /// Shows or hides the progress, if there is any.
    pub(super) fn toggle_progress(&self) {
        let Some(bar) = &self.bar else { return };
        if self.is_shown.fetch_not(Ordering::Relaxed) {
            bar.set_draw_target(ProgressDrawTarget::hidden());
            stdio::say(CLEAR);
        } else {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Draws the progress. `total` is known once the input has been read; wpool does not read ahead to learn
    /// it.
    pub(super) fn progress(&self, form: ProgressForm, done: u64, remarks: &str, total: Option<u64>) {
        let Some(bar) = &self.bar else { return };
        if let (Some(total), None, ProgressForm::None | ProgressForm::Auto | ProgressForm::Bar) =
            (total, bar.length(), form)
        {
            bar.set_style(bar_style("[{bar:30}] {pos}/{len}{msg} [{elapsed}, {rate}, {eta} left]"));
            bar.set_length(total);
        }
        bar.set_position(done);
        if !remarks.is_empty() {
            bar.set_message(remarks.to_owned());
        }
    }

    /// Whether there is progress to draw, now or after a signal.
    pub(super) fn may_show_progress(&self) -> bool {
        self.bar.is_some()
    }

    /// Calls `write`, which may write to the terminal that shows the progress.
    pub(super) fn beside_progress(&self, write: impl FnOnce()) {
        match &self.bar {
            Some(bar) if std::io::stdout().is_terminal() => bar.suspend(write),
            _ => write(),
        }
    }

    pub(super) fn end_progress(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// `compiling numpy.wasm (12.30 MiB) ... 4 s`.
fn compilation(compiling: &Compiling) -> String {
    let mut pieces = pieces(compiling.name.as_deref().unwrap_or("a module").as_bytes());
    let name: String = pieces.by_ref().take(NAME_MAX).collect();
    let rest = if pieces.next().is_some() { "…" } else { "" };
    format!("compiling {name}{rest} ({}) ... {} s", HumanBytes(compiling.size), compiling.elapsed.as_secs())
}

fn bar_style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the template is ours").progress_chars("=> ");
    style.with_key("rate", |state: &ProgressState, text: &mut dyn Write| {
        let _shown_or_not = write!(text, "{:.0}/s", state.per_sec());
    })
}

fn wants_color() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let forced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
    !set("NO_COLOR") && (forced || (std::io::stderr().is_terminal() && !is_dumb()))
}

fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compilation_is_named_escaped_and_shortened() {
        let (size, elapsed) = (12 << 20, Duration::from_millis(4900));
        let text = |name| compilation(&Compiling { name, size, elapsed, is_done: false });
        assert_eq!(text(Some("a\x1b[2J.wasm".to_owned())), "compiling a\\x1b[2J.wasm (12.00 MiB) ... 4 s");
        assert_eq!(text(None), "compiling a module (12.00 MiB) ... 4 s");
        assert_eq!(text(Some("x".repeat(300))), format!("compiling {}… (12.00 MiB) ... 4 s", "x".repeat(40)));
    }
}
