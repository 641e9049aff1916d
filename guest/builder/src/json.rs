//! Cuts one array out of a JSON text, for comparing its elements as text. No values are decoded.

/// The elements of the array `member` of the top-level object, each as text without white space outside of
/// strings. `None` if there is no such array.
pub(crate) fn elements(text: &str, member: &str) -> Option<Vec<String>> {
    let object = compact(text);
    let members = pieces(&object, '{', '}')?;
    let prefix = format!("\"{member}\":");
    let array = members.iter().find_map(|each| each.strip_prefix(&prefix))?;
    pieces(array, '[', ']')
}

/// The text without white space outside of strings.
fn compact(text: &str) -> String {
    let mut scan = Scan::default();
    text.chars().filter(|&c| scan.is_in_string(c) || !c.is_ascii_whitespace()).collect()
}

/// The texts between the commas of this object or array.
fn pieces(text: &str, open: char, close: char) -> Option<Vec<String>> {
    let inside = text.strip_prefix(open)?.strip_suffix(close)?;
    let mut pieces = vec![String::new()];
    let (mut scan, mut depth) = (Scan::default(), 0_u32);
    for c in inside.chars() {
        let outside = !scan.is_in_string(c);
        match c {
            '[' | '{' if outside => depth += 1,
            ']' | '}' if outside => depth = depth.checked_sub(1)?,
            ',' if outside && depth == 0 => {
                pieces.push(String::new());
                continue;
            }
            _ => {}
        }
        pieces.last_mut()?.push(c);
    }
    pieces.retain(|piece| !piece.is_empty());
    Some(pieces)
}

/// Follows where strings begin and end.
#[derive(Default)]
struct Scan {
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// Whether `c`, the next character of the text, is part of a string. The quotes are part of it.
    fn is_in_string(&mut self, c: char) -> bool {
        let was = self.in_string;
        match c {
            _ if self.escaped => self.escaped = false,
            '\\' if was => self.escaped = true,
            '"' => self.in_string = !was,
            _ => {}
        }
        was || self.in_string
    }
}

#[cfg(test)]
mod tests {
    use super::elements;

    #[test]
    fn the_elements_of_a_member_are_found() {
        let text = r#"{ "name": "a, \"b\" ]}", "imports": [ {"exports": [1]} ],
                        "exports": [ { "name": "run", "wit": "func() -> list<u8>, }" }, {"name":"init"} ] }"#;
        let expected = [r#"{"name":"run","wit":"func() -> list<u8>, }"}"#, r#"{"name":"init"}"#];
        assert_eq!(elements(text, "exports").as_deref(), Some(expected.map(String::from).as_slice()));
    }

    #[test]
    fn an_empty_array_has_no_elements() {
        assert_eq!(elements(r#"{"exports": [ ]}"#, "exports"), Some(vec![]));
    }

    #[test]
    fn other_shapes_are_refused() {
        for text in ["", "[]", "{}", r#"{"exports": 1}"#, r#"{"exports": []"#, r#"{"imports": []}"#] {
            assert_eq!(elements(text, "exports"), None, "{text}");
        }
    }
}
