//! What the decoders must do, said in another way: slowly, byte by byte, without any of their code.

use serde_json::Value as Json;

/// A stream of frames by its definition, `length: u32, kind: u8, payload`: the frames, and how it goes on.
pub(super) fn frames(result_max: usize, other_max: usize, stream: &[u8]) -> (Vec<(u8, Vec<u8>)>, Next) {
    let mut frames = Vec::new();
    let mut rest = stream;
    loop {
        if rest.len() < 5 {
            return (frames, Next::More);
        }
        let len = rest[..4].iter().rev().fold(0, |len, byte| len << 8 | usize::from(*byte));
        let kind = rest[4];
        if len > 1 << 30 {
            return (frames, Next::TooLong(len));
        }
        if ![1, 2, 3, 4, 16, 17, 18, 19, 20, 21, 22, 23, 24, 32, 33, 34, 40, 41].contains(&kind) {
            return (frames, Next::Unknown(kind));
        }
        if len > if kind == 16 { result_max } else { other_max } {
            return (frames, Next::TooLong(len));
        }
        if rest.len() < 5 + len {
            return (frames, Next::More);
        }
        frames.push((kind, rest[5..5 + len].to_vec()));
        rest = &rest[5 + len..];
    }
}

/// What follows the last whole frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Not yet a frame.
    More,
    TooLong(usize),
    Unknown(u8),
}

/// A frame.
pub(super) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut len = payload.len();
    let mut bytes = Vec::new();
    for _ in 0..4 {
        bytes.push((len % 256) as u8);
        len /= 256;
    }
    [&bytes[..], &[kind], payload].concat()
}

/// The number that bytes are, the lowest first.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// One of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Task<'b> {
    Bytes(&'b [u8]),
    Misfit(&'b [u8]),
    Placed(u64, u64),
}

/// A batch by its definition: plan, attempt, and its tasks up to the first that is none.
pub(super) fn batch(payload: &[u8]) -> Option<(u64, u64, Vec<Task<'_>>, bool)> {
    if payload.len() < 8 {
        return None;
    }
    let mut tasks = Vec::new();
    let mut rest = &payload[8..];
    while !rest.is_empty() {
        let whole = rest.get(..4).map(number).and_then(|head| {
            let len = usize::try_from(head % (1 << 30)).ok()?;
            let bytes = rest.get(4..4 + len)?;
            let task = match head >> 30 {
                0 => Task::Bytes(bytes),
                2 => Task::Misfit(bytes),
                1 if len == 16 => Task::Placed(number(&bytes[..8]), number(&bytes[8..])),
                _ => return None,
            };
            Some((task, 4 + len))
        });
        let Some((task, len)) = whole else {
            return Some((number(&payload[..4]), number(&payload[4..8]), tasks, false));
        };
        tasks.push(task);
        rest = &rest[len..];
    }
    Some((number(&payload[..4]), number(&payload[4..8]), tasks, true))
}

/// What becomes of a text that is at most so long.
pub(super) fn is_cut(text: &str, whole: &str, most: usize) -> bool {
    if whole.len() <= most {
        return text == whole;
    }
    let end = format!("... ({} bytes)", whole.len());
    let kept = text.strip_suffix(&end).unwrap_or("?");
    text.len() <= most && text.len() + 4 > most && whole.starts_with(kept)
}

/// Whether all that `said` says stands in `heard`, value for value. `heard` may leave out what means no,
/// none or zero. Texts, and lists, may be cut as `cut` says.
pub(super) fn is_said(said: &Json, heard: &Json, cut: &dyn Fn(&str, &str) -> bool, items_max: usize) -> bool {
    let both = |said: &Json, heard: &Json| is_said(said, heard, cut, items_max);
    match (said, heard) {
        (Json::Object(said), Json::Object(heard)) => said
            .iter()
            .all(|(name, said)| heard.get(name).map_or_else(|| is_nothing(said), |heard| both(said, heard))),
        // The same by position.
        (Json::Object(said), Json::Array(heard)) => said.len() <= heard.len(),
        (Json::Array(said), Json::Array(heard)) => {
            said.len() == heard.len().min(items_max)
                && said.iter().zip(heard).all(|(said, heard)| both(said, heard))
        }
        // A word may be said as an object of nothing.
        (Json::String(said), Json::Object(heard)) => {
            heard.len() == 1 && heard.get(said).is_some_and(is_nothing)
        }
        (Json::String(said), Json::String(heard)) => cut(said, heard),
        (Json::Number(said), Json::Number(heard)) => said == heard || said.as_f64() == heard.as_f64(),
        (said, heard) => said == heard,
    }
}

/// What a message may leave out. An import without a kind is an `interface`.
fn is_nothing(json: &Json) -> bool {
    match json {
        Json::Null => true,
        Json::Bool(yes) => !yes,
        Json::Number(n) => n.as_f64() == Some(0.0),
        Json::String(text) => text.is_empty() || text == "interface",
        Json::Array(items) => items.is_empty(),
        Json::Object(fields) => fields.values().all(is_nothing),
    }
}

/// The kind that a failure is told as, by the name of its variant.
pub(super) fn kind_of(failure: &Json) -> String {
    let (name, inside) = match failure {
        Json::String(name) => (name.as_str(), &Json::Null),
        Json::Object(fields) => {
            fields.iter().next().map_or(("", &Json::Null), |(name, inside)| (name.as_str(), inside))
        }
        _ => ("", &Json::Null),
    };
    let kind = match name {
        "Failed" => "failed",
        "Trap" => "trap",
        "Exited" => "exit",
        "BadRecord" => "bad-input",
        "BadResult" => "bad-result",
        "Cancelled" => "cancelled",
        "Limit" => return inside["limit"].as_str().unwrap_or_default().to_lowercase(),
        "NoInstance" => return kind_of(&inside["failure"]),
        other => other,
    };
    kind.to_owned()
}

/// Whether a worker may say so of a task.
pub(super) fn is_of_a_task(failure: &Json) -> bool {
    kind_of(failure) != "cancelled"
}

/// Characters that must never be shown as they are, and some that must.
pub(super) fn is_shown(c: char) -> Option<bool> {
    match u32::from(c) {
        0x20..=0x7e => Some(true),
        0..=0x1f
        | 0x7f..=0x9f
        | 0xad
        | 0x61c
        | 0x200b..=0x200f
        | 0x2028..=0x202e
        | 0x2060..=0x206f
        | 0xfeff => Some(false),
        0xe000..=0xf8ff | 0xfff9..=0xfffb | 0xe0000..=0xe007f | 0xf_0000..=0x10_ffff => Some(false),
        // Letters of Europe, of Greece and Russia, of Japan, and what pictures are.
        0xc0..=0xd6
        | 0x391..=0x3a1
        | 0x410..=0x44f
        | 0x3041..=0x3096
        | 0x4e00..=0x9fa5
        | 0x1f600..=0x1f64f => Some(true),
        _ => None,
    }
}

/// How a character is written that is not shown as it is.
pub(super) fn escaped(c: char) -> String {
    match c {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        '\0' => "\\0".to_owned(),
        c if u32::from(c) < 128 => format!("\\x{:02x}", u32::from(c)),
        c => format!("\\u{{{:x}}}", u32::from(c)),
    }
}

/// An integer by its plain decimal text, for the types that have a range.
pub(super) fn integer(text: &str, min: i128, max: i128) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    text.parse().ok().filter(|n| is_plain && (min..=max).contains(n))
}
