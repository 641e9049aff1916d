//! Makes text from other sources harmless: this module alone decides what a message may contain.
//!
//! A guest writes error messages, a module names its functions, a worker says why it ends, another user
//! names a file. On a terminal such text could move the cursor, set the title or make the terminal answer.
//! In a log it could forge lines. Some characters make a line look different from what it is. So every
//! message, of the library and of the program, is one line of visible characters. A *value* that a caller
//! gets (a result, a name, the text of [`TaskError::message`](crate::TaskError::message)) is unchanged.
//!
//! | shown as | what |
//! |---|---|
//! | itself | visible characters: letters, marks, digits, punctuation, symbols, spaces |
//! | `\n` `\r` `\t` `\0` `\x1b` | the control characters of ASCII, with `DEL` |
//! | `\u{9b}` | the control characters of Latin 1; line and paragraph separators |
//! | `\u{202e}` | characters without width or for right-to-left order; private and unassigned ones |
//! | `\xff` | a byte that is not part of valid UTF-8 |
//!
//! Backslashes and quotes are harmless and stay unchanged: messages are for people, and are not parsed again.

use std::fmt::{self, Write};

/// Characters shown of a long message: at its beginning, and at its end.
const HEAD_MAX: usize = 960;
const TAIL_MAX: usize = 40;

/// Whether `c` is shown unchanged.
pub(crate) fn is_plain(c: char) -> bool {
    match c {
        ' '..='~' => true,
        // Some programs take these for line ends, though they count as white space.
        '\u{2028}' | '\u{2029}' => false,
        c if c.is_ascii() || c.is_control() => false,
        c if c.is_alphanumeric() || c.is_whitespace() => true,
        c => {
            // `escape_debug` knows which characters are visible. It escapes a combining mark at the beginning
            // of a text, so a letter stands before `c` here.
            let mut bytes = [b'a'; 5];
            let len = 1 + c.encode_utf8(&mut bytes[1..]).len();
            std::str::from_utf8(&bytes[..len]).expect("two characters").escape_debug().nth(1) == Some(c)
        }
    }
}

/// Writes `c`, escaped unless it is plain.
fn show(out: &mut impl Write, c: char) -> fmt::Result {
    match c {
        c if is_plain(c) => out.write_char(c),
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        '\0' => out.write_str("\\0"),
        c if c.is_ascii() => write!(out, "\\x{:02x}", u32::from(c)),
        c => write!(out, "\\u{{{:x}}}", u32::from(c)),
    }
}

/// A whole text, shown on one line.
pub(crate) struct OneLine<T>(pub(crate) T);

impl<T: AsRef<str>> fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().chars().try_for_each(|c| show(f, c))
    }
}

/// A text on one line, without white space at its end. A long text loses its middle, because it may have
/// megabytes.
pub(crate) fn shortened(text: &str) -> String {
    let text = text.trim_end();
    let head = text.char_indices().nth(HEAD_MAX).map_or(text.len(), |(at, _)| at);
    let tail = text.char_indices().rev().nth(TAIL_MAX - 1).map_or(0, |(at, _)| at);
    if head >= tail {
        return OneLine(text).to_string();
    }
    format!("{}…[{} bytes]…{}", OneLine(&text[..head]), tail - head, OneLine(&text[tail..]))
}

/// Lines below the first that are shown of a text, at its beginning and at its end; and the bytes of these
/// lines, for each of both ends, before long lines are shortened.
#[cfg(feature = "cli")]
const LINES_MAX: usize = 10;
#[cfg(feature = "cli")]
const LINES_LEN_MAX: usize = 2 << 10;
/// Stands before each of these lines, so that none looks like a message of its own.
#[cfg(feature = "cli")]
const INDENT: &str = "    | ";

/// Splits a text of several lines (such as a traceback) into the first line, which begins a message, and the
/// lines below. Every line is escaped, and the lines below are indented behind a bar, so that no line can
/// look like a message of wpool. If there are many lines, the middle is replaced by a count.
#[cfg(feature = "cli")]
pub(crate) fn lines(text: &str) -> (String, Vec<String>) {
    let mut lines = text.trim_matches(['\n', '\r']).trim_end().split('\n');
    let first = shortened(lines.next().unwrap_or_default());
    let rest: Vec<&str> = lines.collect();
    let within = |lines: &mut dyn Iterator<Item = &&str>| {
        let mut len = 0;
        let fits = |line: &&&str| {
            len += line.len().min(LINES_LEN_MAX);
            len <= LINES_LEN_MAX
        };
        lines.take(LINES_MAX).take_while(fits).count()
    };
    let head = within(&mut rest.iter());
    let tail = within(&mut rest[head..].iter().rev());
    let shown =
        |line: &&str| format!("{INDENT}{}", shortened(&line.replace('\t', "    "))).trim_end().to_owned();
    let left_out = rest.len() - head - tail;
    let middle = match left_out {
        0 => None,
        1 => Some(format!("{INDENT}… 1 more line")),
        count => Some(format!("{INDENT}… {count} more lines")),
    };
    let further =
        rest[..head].iter().map(shown).chain(middle).chain(rest[rest.len() - tail..].iter().map(shown));
    (first, further.collect())
}

/// Names on one line, separated by `between`. Names that do not fit are only counted.
pub(crate) fn list(names: &[String], between: &str) -> String {
    let mut line = String::new();
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            line.push_str(between);
        }
        // Checked before each name, so that one name at least is always shown.
        if line.len() > HEAD_MAX {
            return format!("{line}and {} more", names.len() - at);
        }
        line.push_str(&shortened(name));
    }
    line
}

/// The pieces in which a record (or any other bytes from outside) is shown: each piece is a character or a
/// byte.
#[cfg(feature = "cli")]
pub(crate) fn pieces(bytes: &[u8]) -> impl Iterator<Item = String> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid().chars().map(|c| OneLine(c.encode_utf8(&mut [0; 4])).to_string());
        valid.chain(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")))
    })
}

/// Escapes a guest's output for a terminal. Newlines, carriage returns and tabs stay; all other characters
/// that are not plain are escaped.
#[cfg(feature = "cli")]
#[derive(Debug, Default)]
pub(crate) struct ForTerminal {
    /// The first bytes of a character whose other bytes have not come yet.
    begun: Vec<u8>,
}

#[cfg(feature = "cli")]
impl ForTerminal {
    /// The bytes to write for `bytes`, which follow those of the last call.
    pub(crate) fn show(&mut self, bytes: &[u8]) -> Vec<u8> {
        let bytes = [&std::mem::take(&mut self.begun), bytes].concat();
        let whole = bytes.len() - begun_len(&bytes);
        self.begun = bytes[whole..].to_vec();
        shown(&bytes[..whole])
    }

    /// The bytes to write for a character that is still incomplete at the end.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        shown(&std::mem::take(&mut self.begun))
    }
}

#[cfg(feature = "cli")]
fn shown(bytes: &[u8]) -> Vec<u8> {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid().chars().try_for_each(|c| match c {
            '\n' | '\r' | '\t' => text.write_char(c),
            c => show(&mut text, c),
        });
        let invalid = chunk.invalid().iter().try_for_each(|byte| write!(text, "\\x{byte:02x}"));
        valid.and(invalid).expect("writing to a String does not fail");
    }
    text.into_bytes()
}

/// The number of bytes at the end that begin an incomplete character.
#[cfg(feature = "cli")]
pub(crate) fn begun_len(bytes: &[u8]) -> usize {
    let end = |len: &usize| &bytes[bytes.len() - len..];
    // No character has more than four bytes: three may wait for the fourth.
    let first = (1..=bytes.len().min(3)).find(|len| end(len)[0] >= 0xc0);
    first.filter(|len| std::str::from_utf8(end(len)).is_err_and(|e| e.error_len().is_none())).unwrap_or(0)
}

/// JSON on one line, harmless on a terminal: characters that are not plain are written as `\u009b`. A JSON
/// reader gets the same values.
#[cfg(feature = "cli")]
#[derive(Debug)]
struct Json;

#[cfg(feature = "cli")]
impl serde_json::ser::Formatter for Json {
    fn write_string_fragment<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> std::io::Result<()> {
        // serde_json has already escaped the control characters of ASCII, except DEL.
        if fragment.is_ascii() && memchr::memchr(0x7f, fragment.as_bytes()).is_none() {
            return out.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| !is_plain(*c)) {
            out.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

/// Bytes that are looked at together.
#[cfg(feature = "cli")]
const LANES: usize = 16;

/// Whether all bytes are visible ASCII, and none is `but`: the usual case, found without a look at each
/// character.
#[cfg(feature = "cli")]
#[inline]
pub(crate) fn is_visible_ascii<const N: usize>(bytes: &[u8], but: [u8; N]) -> bool {
    let is_visible = |byte: &u8| matches!(byte, b' '..=b'~') & !but.contains(byte);
    let (lanes, rest) = bytes.as_chunks::<LANES>();
    // Without an early end inside of a lane, so that the compiler can compare its bytes at once.
    lanes.iter().all(|lane| lane.iter().fold(true, |all, byte| all & is_visible(byte)))
        && rest.iter().fold(true, |all, byte| all & is_visible(byte))
}

/// Bytes that are text, as a string of JSON.
#[cfg(feature = "cli")]
#[derive(Debug)]
pub(crate) enum JsonText<'t> {
    /// Nothing in it has to be escaped.
    Visible(&'t [u8]),
    Other(&'t str),
}

#[cfg(feature = "cli")]
impl<'t> JsonText<'t> {
    /// `None`: the bytes are no UTF-8.
    #[inline]
    pub(crate) fn new(bytes: &'t [u8]) -> Option<JsonText<'t>> {
        if is_visible_ascii(bytes, [b'"', b'\\']) {
            return Some(JsonText::Visible(bytes));
        }
        std::str::from_utf8(bytes).ok().map(JsonText::Other)
    }

    /// Writes the string as [`write_json`] does.
    #[inline]
    pub(crate) fn write(self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        match self {
            JsonText::Visible(bytes) => {
                out.write_all(b"\"")?;
                out.write_all(bytes)?;
                out.write_all(b"\"")
            }
            JsonText::Other(text) => {
                write_json(out, &text);
                Ok(())
            }
        }
    }
}

/// Appends the JSON of `value` to a writer that never fails.
#[cfg(feature = "cli")]
pub(crate) fn write_json(out: impl std::io::Write, value: &impl serde::Serialize) {
    let mut serializer = serde_json::Serializer::with_formatter(out, Json);
    value
        .serialize(&mut serializer)
        .expect("strings and numbers have a JSON form, and the writer does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts, and how each is shown.
    const TABLE: [(&str, &str); 24] = [
        ("it's \"größe\" \\ 10 €", "it's \"größe\" \\ 10 €"),
        ("日本\u{3000}語 हिन्दी ไทย 🦀 e\u{301}", "日本\u{3000}語 हिन्दी ไทย 🦀 e\u{301}"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\r\nb\tc\0d\x7f", "a\\r\\nb\\tc\\0d\\x7f"),
        ("\u{85}\u{9b}31m", "\\u{85}\\u{9b}31m"),
        ("\u{202a}", "\\u{202a}"),
        ("\u{202b}", "\\u{202b}"),
        ("\u{202c}", "\\u{202c}"),
        ("\u{202d}", "\\u{202d}"),
        ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
        ("\u{2066}", "\\u{2066}"),
        ("\u{2067}", "\\u{2067}"),
        ("\u{2068}", "\\u{2068}"),
        ("\u{2069}", "\\u{2069}"),
        ("\u{200e}\u{200f}\u{61c}", "\\u{200e}\\u{200f}\\u{61c}"),
        ("\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}", "\\u{200b}\\u{200c}\\u{200d}\\u{2060}\\u{feff}"),
        ("\u{ad}", "\\u{ad}"),
        ("\u{2028}", "\\u{2028}"),
        ("\u{2029}", "\\u{2029}"),
        ("\u{e000}", "\\u{e000}"),
        ("\u{e0041}", "\\u{e0041}"),
        ("\u{fff9}", "\\u{fff9}"),
        ("\u{10ffff}", "\\u{10ffff}"),
        ("", ""),
    ];

    fn is_harmless(text: &str) -> bool {
        text.chars().all(is_plain)
    }

    #[test]
    fn f23_f24_text_of_others_is_one_line_without_power_over_a_terminal() {
        for (text, line) in TABLE {
            assert_eq!(OneLine(text).to_string(), line, "{text:?}");
            assert!(is_harmless(line), "{text:?}");
        }
    }

    #[test]
    fn every_control_and_format_character_there_is_has_no_power() {
        // The categories Cc, and Cf as of Unicode 16.
        let format = [
            0xad..=0xad,
            0x600..=0x605,
            0x61c..=0x61c,
            0x6dd..=0x6dd,
            0x70f..=0x70f,
            0x890..=0x891,
            0x8e2..=0x8e2,
            0x180e..=0x180e,
            0x200b..=0x200f,
            0x202a..=0x202e,
            0x2060..=0x2064,
            0x2066..=0x206f,
            0xfeff..=0xfeff,
            0xfff9..=0xfffb,
            0x110bd..=0x110bd,
            0x110cd..=0x110cd,
            0x13430..=0x1343f,
            0x1bca0..=0x1bca3,
            0x1d173..=0x1d17a,
            0xe0001..=0xe0001,
            0xe0020..=0xe007f,
        ];
        let format = format.into_iter().flatten().filter_map(char::from_u32);
        let control = ('\0'..=char::MAX).filter(|c| c.is_control());
        for c in format.chain(control).chain(['\u{2028}', '\u{2029}']) {
            assert!(!is_plain(c), "{c:?}");
        }
    }

    #[test]
    fn f27_a_long_text_keeps_its_two_ends_and_says_what_is_left_out() {
        let text = format!("{}the end\n", "é".repeat(5000));
        let line = shortened(&text);
        assert!(line.starts_with(&format!("{}…[", "é".repeat(HEAD_MAX))), "{line}");
        let left_out = (5000 - HEAD_MAX - 33) * 2;
        assert!(line.ends_with(&format!("…[{left_out} bytes]…{}the end", "é".repeat(33))), "{line}");
        let longest_whole = "x".repeat(HEAD_MAX + TAIL_MAX);
        assert_eq!(shortened(&longest_whole), longest_whole);
        assert_eq!(
            shortened(&"\0".repeat(1 << 20)).len(),
            (HEAD_MAX + TAIL_MAX) * 2 + "…[1047576 bytes]…".len()
        );
    }

    #[cfg(feature = "cli")]
    #[test]
    fn f147_a_text_of_several_lines_is_shown_as_such_and_forges_none() {
        let shown = |text: &str| {
            let (first, further) = lines(text);
            assert!(further.iter().all(|line| line.starts_with("    |")), "{further:?}");
            [vec![first], further].concat()
        };
        assert_eq!(shown("one\n"), ["one"]);
        assert_eq!(shown(""), [""]);
        assert_eq!(shown("\r\n\none\r\n"), ["one"]);
        let traceback = "Traceback (most recent call last):\r\n  File \"a.py\", line 1\r\n\r\n\
            \tat \x1b[2J\nwpool: forged\u{202e}\n";
        assert_eq!(
            shown(traceback),
            [
                "Traceback (most recent call last):",
                "    |   File \"a.py\", line 1",
                "    |",
                "    |     at \\x1b[2J",
                "    | wpool: forged\\u{202e}"
            ]
        );
        let many: String = (0..1000).map(|n| format!("{n}\n")).collect();
        let said = shown(&many);
        assert_eq!((said.len(), &said[10][..], &said[11][..]), (22, "    | 10", "    | … 979 more lines"));
        assert_eq!(said[21], "    | 999");
        assert_eq!(shown("a\nb\nc").len(), 3);
        for long in [
            "x\n".repeat(1 << 20),
            "\0".repeat(1 << 20),
            format!("a\n{}", "\u{10ffff}".repeat(1 << 20)),
            format!("a\n{}", "b".repeat(5000) + "\n").repeat(50),
        ] {
            let said = shown(&long);
            assert!(
                said.len() <= 22 && said.concat().len() < 32 << 10,
                "{} lines, {} bytes",
                said.len(),
                said.concat().len()
            );
        }
    }

    #[test]
    fn a_long_list_is_counted() {
        let names: Vec<String> = (0..1_000_000).map(|n| format!("f{n}\n")).collect();
        assert_eq!(list(&names[..3], ", "), "f0, f1, f2");
        let line = list(&names, "; ");
        assert!(line.len() < 1100 && line.ends_with(" more"), "{line}");
        assert!(list(&["\x1b".repeat(1 << 20), "b".to_owned()], ", ").ends_with(", and 1 more"));
        assert_eq!(list(&[], ", "), "");
    }

    #[cfg(feature = "cli")]
    #[test]
    fn what_is_shown_on_a_terminal_does_not_depend_on_the_pieces_it_comes_in() {
        let text = b"a\tb\r\n\x1b[2J\xc2\x9b \xe2\x82\xac \xff\xe2\x82 \xf0\x9f\xa6\x80\xf0\x9f";
        let wanted = "a\tb\r\n\\x1b[2J\\u{9b} € \\xff\\xe2\\x82 🦀\\xf0\\x9f";
        for piece in 1..=text.len() {
            let mut terminal = ForTerminal::default();
            let mut shown: Vec<u8> = text.chunks(piece).flat_map(|piece| terminal.show(piece)).collect();
            shown.extend(terminal.finish());
            assert_eq!(String::from_utf8(shown).unwrap(), wanted, "{piece}");
        }
    }

    #[cfg(feature = "cli")]
    #[test]
    fn json_is_one_plain_line_and_means_the_same() {
        for (text, _) in TABLE {
            let mut json = Vec::new();
            write_json(&mut json, &[text]);
            let json = String::from_utf8(json).unwrap();
            assert!(is_harmless(&json), "{json:?}");
            assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), [text]);
        }
    }

    #[cfg(feature = "cli")]
    #[test]
    fn a_text_in_json_is_the_same_by_the_short_way() {
        let long = "0123456789 abcdef ".repeat(5);
        let texts = TABLE.iter().map(|(text, _)| (*text).to_owned());
        let changed = (0..long.len()).flat_map(|at| {
            ["\"", "\\", "\n", "\x7f", "é", "\u{9b}"]
                .map(|odd| format!("{}{odd}{}", &long[..at], &long[at..]))
        });
        for text in texts.chain(changed).chain([long.clone()]) {
            let (mut expected, mut json) = (Vec::new(), Vec::new());
            write_json(&mut expected, &text);
            JsonText::new(text.as_bytes()).unwrap().write(&mut json).unwrap();
            assert_eq!(json, expected);
        }
        assert!(JsonText::new(b"a\xff").is_none());
    }
}
