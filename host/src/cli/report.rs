//! What is said on stderr: lines of ours, lines of guests, progress. Nothing that a guest or an input chose reaches the terminal unescaped.

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::args::{ProgressForm, Talk, When};
use super::labels::Label;
use super::stdio;
use super::tally::Tally;
use crate::escape::{OneLine, begun_len, pieces, shortened};
use crate::module::Compiling;

/// Characters of an input that are shown.
const INPUT_MAX: usize = 40;

/// A compilation that takes longer is told of.
const COMPILES_LONG: Duration = Duration::from_secs(1);

/// Clears the line of a terminal.
const CLEAR: &[u8] = b"\r\x1b[2K";

/// Says things on stderr.
#[derive(Debug, Clone)]
pub(super) struct Report {
    quiet: bool,
    verbose: bool,
    color: bool,
    bar: Option<ProgressBar>,
    /// The bar can be seen.
    is_shown: Arc<AtomicBool>,
    /// It has been said that a module is compiled, and not yet that this is over.
    is_compiling: Arc<AtomicBool>,
}

impl Report {
    pub(super) fn new(talk: &Talk) -> Report {
        let color = match talk.color {
            When::Always => true,
            When::Never => false,
            When::Auto => wants_color(),
        };
        Report {
            quiet: talk.quiet,
            verbose: talk.verbose,
            color,
            bar: None,
            is_shown: Arc::default(),
            is_compiling: Arc::default(),
        }
    }

    /// What went wrong.
    pub(super) fn error(&self, text: &str) {
        self.say("31", text);
    }

    /// Why a task has no result, and what more there is to say about it, in one write.
    pub(super) fn failure(&self, text: &str, further: &[String]) {
        let text = self.marked("31", text);
        self.line(&further.iter().fold(text, |text, line| text + "\n" + line));
    }

    /// What may be wrong.
    pub(super) fn warn(&self, text: &str) {
        if !self.quiet {
            self.say("33", &format!("warning: {text}"));
        }
    }

    /// What was asked for, or is of interest to everybody.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            self.line(&shortened(text));
        }
    }

    /// What is of interest to the curious.
    pub(super) fn detail(&self, text: &str) {
        if self.verbose {
            self.say("2", &shortened(text));
        }
    }

    pub(super) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// The program's name, then the text on one line. What a stranger chose of it has been shortened where it was put in.
    fn say(&self, color: &str, text: &str) {
        self.line(&self.marked(color, text));
    }

    fn marked(&self, color: &str, text: &str) -> String {
        // What is escaped already is not changed by that.
        match self.color {
            true => format!("\x1b[{color}mwpool:\x1b[0m {}", OneLine(text.trim_end())),
            false => format!("wpool: {}", OneLine(text.trim_end())),
        }
    }

    /// Lines of ours as they are, in one write: those of several threads do not mix.
    pub(super) fn line(&self, text: &str) {
        let text = format!("{text}\n");
        match &self.bar {
            Some(bar) => bar.suspend(|| stdio::say(text.as_bytes())),
            None => stdio::say(text.as_bytes()),
        }
    }

    /// Whole lines, or none.
    pub(super) fn lines(&self, text: &str) {
        if let Some(text) = text.strip_suffix('\n') {
            self.line(text);
        }
    }

    /// Tells of a compilation that takes long: on a terminal by a line that is drawn anew until it is over, elsewhere once.
    pub(super) fn compiling(&self, compiling: &Compiling) {
        let is_drawn = std::io::stderr().is_terminal() && !is_dumb();
        if compiling.is_done {
            if self.is_compiling.swap(false, Ordering::Relaxed) && is_drawn {
                stdio::say(CLEAR);
            }
        } else if !self.quiet && compiling.elapsed >= COMPILES_LONG {
            let is_first = !self.is_compiling.swap(true, Ordering::Relaxed);
            match is_drawn {
                true => stdio::say(&[CLEAR, compilation(compiling).as_bytes()].concat()),
                false if is_first => self.say("2", &compilation(compiling)),
                false => {}
            }
        }
    }

    /// Begins to show progress, if somebody can see it and wants to.
    pub(super) fn start_progress(&mut self, form: ProgressForm) {
        let style = match form {
            ProgressForm::None | ProgressForm::Auto | ProgressForm::Bar => {
                "{spinner} {pos} done{msg} [{elapsed}, {rate}]"
            }
            ProgressForm::Counter => "{pos} done{msg} [{elapsed}]",
        };
        if self.quiet || !std::io::stderr().is_terminal() || is_dumb() {
            return;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(bar_style(style));
        bar.enable_steady_tick(Duration::from_millis(200));
        self.bar = Some(bar);
        if form != ProgressForm::None {
            self.toggle_progress();
        }
    }

    /// Shows progress from now on, or does not any more. Nothing happens if nobody could see it.
    pub(super) fn toggle_progress(&self) {
        let Some(bar) = &self.bar else { return };
        if self.is_shown.fetch_not(Ordering::Relaxed) {
            bar.set_draw_target(ProgressDrawTarget::hidden());
            stdio::say(CLEAR);
        } else {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Shows how far things are. `total` as soon as it is known: the input is never read ahead for it.
    pub(super) fn progress(&self, form: ProgressForm, tally: &Tally, total: Option<u64>) {
        let Some(bar) = &self.bar else { return };
        if let (Some(total), None, ProgressForm::None | ProgressForm::Auto | ProgressForm::Bar) =
            (total, bar.length(), form)
        {
            bar.set_style(bar_style("[{bar:30}] {pos}/{len}{msg} [{elapsed}, {rate}, {eta} left]"));
            bar.set_length(total);
        }
        bar.set_position(tally.done());
        let failed = if tally.failed() > 0 { format!(", {} failed", tally.failed()) } else { String::new() };
        let said = failed + &tally.trouble();
        if !said.is_empty() {
            bar.set_message(said);
        }
    }

    /// Whether there is progress to show, now or after a signal.
    pub(super) fn may_show_progress(&self) -> bool {
        self.bar.is_some()
    }

    /// Calls `write`, which may write to the terminal that the progress is on.
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
    let name: String = pieces.by_ref().take(INPUT_MAX).collect();
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

/// A record, quoted and shortened: `"abc…"`.
pub(super) fn quoted(label: &Label) -> String {
    let whole = match label.is_cut {
        // The end of a cut record may be half a character.
        true => label.text.len() - begun_len(&label.text),
        false => label.text.len(),
    };
    let mut text = String::from("\"");
    let mut pieces = pieces(&label.text[..whole]);
    for piece in pieces.by_ref().take(INPUT_MAX) {
        match &piece[..] {
            "\"" | "\\" => text.extend(["\\", &piece]),
            _ => text.push_str(&piece),
        }
    }
    let is_cut = label.is_cut || pieces.next().is_some();
    if is_cut {
        text.push('…');
    }
    text.push('"');
    text
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

    #[test]
    fn inputs_are_quoted_escaped_and_shortened() {
        let label = |text: &[u8], is_cut| Label { text: text.to_vec(), is_cut, ..Label::default() };
        assert_eq!(quoted(&label(b"abc", false)), "\"abc\"");
        assert_eq!(quoted(&label(b"abc", true)), "\"abc…\"");
        assert_eq!(quoted(&label(b"a\"\t\xff\x00\x1b[2J", false)), "\"a\\\"\\t\\xff\\0\\x1b[2J\"");
        assert_eq!(quoted(&label("é".repeat(48).as_bytes(), false)), format!("\"{}…\"", "é".repeat(40)));
        assert_eq!(quoted(&label(&"é".as_bytes()[..1], true)), "\"…\"");
        assert_eq!(quoted(&label(b"", false)), "\"\"");
    }
}
