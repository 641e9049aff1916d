//! Items as bytes.

use std::any::Any;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::IpcError;

/// What can be put into a queue, sent through a pipe, or kept in a value or a dict: every type of serde's
/// that owns its content.
///
/// A `String` is sent as its text and a `Vec<u8>` as its bytes, so that any language and the command line can
/// read them. Any other type is sent as JSON, where Python uses pickle: reading it runs no code.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use wpool::ipc::Queue;
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Page {
///     url: String,
///     depth: u32,
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pages = Queue::<Page>::unbounded();
/// pages.put(&Page { url: "https://example.org".to_owned(), depth: 2 })?;
/// assert_eq!(pages.get()?.depth, 2);
/// # Ok(())
/// # }
/// ```
pub trait Transfer: Serialize + DeserializeOwned + 'static {}

impl<T: Serialize + DeserializeOwned + 'static> Transfer for T {}

/// The bytes of an item.
pub(super) fn encode<T: Transfer>(item: &T) -> Result<Vec<u8>, IpcError> {
    let any: &dyn Any = item;
    if let Some(text) = any.downcast_ref::<String>() {
        Ok(text.clone().into_bytes())
    } else if let Some(bytes) = any.downcast_ref::<Vec<u8>>() {
        Ok(bytes.clone())
    } else {
        serde_json::to_vec(item).map_err(|e| IpcError::Encode(e.to_string()))
    }
}

/// The item that the bytes stand for.
pub(super) fn decode<T: Transfer>(data: Vec<u8>) -> Result<T, IpcError> {
    let mut item: Option<T> = None;
    let slot: &mut dyn Any = &mut item;
    if let Some(bytes) = slot.downcast_mut::<Option<Vec<u8>>>() {
        *bytes = Some(data);
    } else if let Some(text) = slot.downcast_mut::<Option<String>>() {
        let wrong = |e: std::string::FromUtf8Error| {
            let reason = e.to_string();
            IpcError::Decode { data: e.into_bytes(), reason }
        };
        *text = Some(String::from_utf8(data).map_err(wrong)?);
    } else {
        match serde_json::from_slice(&data) {
            Ok(value) => item = Some(value),
            Err(e) => return Err(IpcError::Decode { data, reason: e.to_string() }),
        }
    }
    Ok(item.expect("each branch above sets the item or returns"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn goes_through<T: Transfer + PartialEq + std::fmt::Debug>(item: T, bytes: &[u8]) {
        assert_eq!(encode(&item).unwrap(), bytes);
        assert_eq!(decode::<T>(bytes.to_vec()).unwrap(), item);
    }

    #[test]
    fn texts_and_bytes_are_sent_as_they_are_and_the_rest_as_json() {
        goes_through("a \"b\"\n".to_owned(), b"a \"b\"\n");
        goes_through(vec![0_u8, 255, 10], &[0, 255, 10]);
        goes_through(String::new(), b"");
        goes_through(42_u64, b"42");
        goes_through(vec!["a".to_owned()], br#"["a"]"#);
        goes_through((1, Some("x".to_owned()), 0.1), br#"[1,"x",0.1]"#);
    }

    #[test]
    fn bytes_of_another_type_are_handed_back() {
        let not_utf8 = decode::<String>(vec![b'a', 255]).unwrap_err();
        assert!(matches!(&not_utf8, IpcError::Decode { data, .. } if data == &[b'a', 255]), "{not_utf8}");
        let no_number = decode::<u32>(b"-1".to_vec()).unwrap_err();
        assert!(matches!(&no_number, IpcError::Decode { data, .. } if data == b"-1"), "{no_number}");
        assert!(no_number.to_string().starts_with("2 bytes are no item of this type: "), "{no_number}");
    }
}
