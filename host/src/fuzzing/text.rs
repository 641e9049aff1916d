//! Calls, and text that is shown.

use super::choices::Choices;
use super::{assert_plain, model};
use crate::escape;
use crate::value::{parse_call, to_wave};

/// A call: its name and its arguments come out as they went in.
pub(super) fn call(data: &[u8]) {
    let mut choices = Choices(data);
    let args: Vec<String> = (0..choices.byte() % 4)
        .map(|_| {
            let ty = choices.ty(2);
            to_wave(&choices.value(&ty))
        })
        .collect();
    let name = ["f", "ns:pkg/interface#func", "a-b", ""][usize::from(choices.byte() % 4)];
    let space = if choices.byte() % 2 == 0 { "" } else { " " };
    let text = format!("{space}{name}{space}({space}{}{space}){space}", args.join(&format!(",{space}")));
    assert_eq!(parse_call(&text), Ok((name.to_owned(), args)), "{text}");
    assert_eq!(parse_call(name), Ok((name.to_owned(), Vec::new())));

    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse_call(text) {
        Ok((name, args)) => {
            assert_eq!(name, text.split('(').next().unwrap_or_default().trim());
            assert!(args.iter().all(|arg| text.contains(arg)));
            assert!(args.iter().map(String::len).sum::<usize>() <= text.len());
        }
        Err(why) => assert_plain(&escape::shortened(&why)),
    }
}

/// Text that is shown: on one line, as JSON, and on a terminal.
pub(super) fn text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for c in text.chars() {
        if let Some(is_shown) = model::is_shown(c) {
            assert_eq!(escape::is_plain(c), is_shown, "{c:?}");
        }
    }
    let line: String =
        text.chars().map(|c| if escape::is_plain(c) { c.to_string() } else { model::escaped(c) }).collect();
    assert_eq!(escape::OneLine(&text).to_string(), line);
    let count = text.trim_end().chars().count();
    let short = escape::shortened(&text);
    assert_plain(&short);
    assert!(short.chars().count() <= 1000 * 10 + 40);
    if count <= 1000 {
        assert_eq!(short, escape::OneLine(text.trim_end()).to_string());
    }
    let long = text.repeat(1 + 3000 / data.len().max(1));
    let long = long.trim_end();
    let short = escape::shortened(long);
    assert_plain(&short);
    if long.chars().count() > 1000 {
        let head: String = long.chars().take(960).collect();
        let tail: String = long.chars().skip(long.chars().count() - 40).collect();
        let left_out = long.len() - head.len() - tail.len();
        let shown = format!("{}…[{left_out} bytes]…{}", escape::OneLine(head), escape::OneLine(tail));
        assert_eq!(short, shown);
    }
    assert_plain(&escape::list(&[text.clone().into_owned(), String::new(), text.clone().into_owned()], ", "));
    #[cfg(feature = "cli")]
    on_a_terminal(data, &text);
}

#[cfg(feature = "cli")]
fn on_a_terminal(data: &[u8], text: &str) {
    let (first, further) = escape::lines(text);
    assert_plain(&first);
    assert!(further.iter().all(|line| line.starts_with("    |")) && further.len() <= 21);
    further.iter().for_each(|line| assert_plain(line));
    let lines = text.trim_matches(['\n', '\r']).trim_end().split('\n').count() - 1;
    assert!(further.len() == lines || (lines > 20 || data.len() > 2048), "{lines} lines and {further:?}");

    let mut json = Vec::new();
    escape::write_json(&mut json, &text);
    assert!(std::str::from_utf8(&json).is_ok_and(|json| json.chars().all(escape::is_plain)));
    assert!(json.len() <= 2 + 6 * text.len(), "{} bytes of {}", json.len(), text.len());
    assert_eq!(serde_json::from_slice::<String>(&json).expect("we read what we write"), text);

    let shown = |piece: usize| {
        let mut terminal = escape::ForTerminal::default();
        let mut shown: Vec<u8> = data.chunks(piece).flat_map(|piece| terminal.show(piece)).collect();
        shown.extend(terminal.finish());
        String::from_utf8(shown).expect("what is shown is text")
    };
    let whole = shown(usize::MAX);
    let mut wanted = String::new();
    for chunk in data.utf8_chunks() {
        wanted.extend(chunk.valid().chars().map(|c| match c {
            '\n' | '\r' | '\t' => c.to_string(),
            c if escape::is_plain(c) => c.to_string(),
            c => model::escaped(c),
        }));
        wanted.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    assert_eq!(whole, wanted);
    for piece in [1, 1 + data.len() % 5] {
        assert_eq!(shown(piece), wanted);
    }
    assert!(escape::pieces(data).all(|piece| piece.chars().all(escape::is_plain)));
}
