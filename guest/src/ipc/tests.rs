//! The forms of items.

use super::{AsItem, Data, ErrorKind};

/// The bytes of this item.
fn bytes<T>(item: impl AsItem<T>) -> Vec<u8> {
    item.bytes().unwrap().into_owned()
}

fn read<T: Data>(bytes: &[u8]) -> Result<T, String> {
    T::decode(bytes.to_vec()).map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::Data);
        error.to_string()
    })
}

#[test]
fn text_and_bytes_are_items_as_they_are() {
    let text = String::from("größe \"1\"");
    assert_eq!(bytes::<String>(&text), text.as_bytes());
    assert_eq!(bytes::<String>(text.as_str()), text.as_bytes());
    assert_eq!(read::<String>(text.as_bytes()), Ok(text));
    assert_eq!(bytes::<Vec<u8>>(vec![0, 255]), [0, 255]);
    assert_eq!(bytes::<Vec<u8>>(&[0, 255]), [0, 255]);
    assert_eq!(read::<Vec<u8>>(&[0, 255]), Ok(vec![0, 255]));
    assert_eq!(read::<String>(b"ab\xff"), Err("the item is not UTF-8 text: byte 2".into()));
}

#[test]
fn numbers_are_items_as_their_text() {
    assert_eq!(bytes::<u64>(3), b"3");
    assert_eq!(bytes::<i8>(&-3), b"-3");
    assert_eq!(bytes::<bool>(true), b"true");
    assert_eq!(read::<u64>(b"18446744073709551615"), Ok(u64::MAX));
    assert!(read::<u8>(b"256").is_err());
}

#[cfg(feature = "json")]
#[test]
fn other_types_are_json() {
    #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
    struct Page {
        name: String,
        links: Vec<u32>,
    }
    let page = Page { name: "a".into(), links: vec![1, 2] };
    let json = bytes::<Page>(&page);
    assert_eq!(String::from_utf8(json.clone()).unwrap(), r#"{"name":"a","links":[1,2]}"#);
    assert_eq!(read::<Page>(&json), Ok(page));
    let message = "the item is not JSON of its type: missing field `links` at line 1 column 12";
    assert_eq!(read::<Page>(br#"{"name":"a"}"#), Err(message.into()));
    let pairs = std::collections::BTreeMap::from([((1_u8, 2_u8), 3_u8)]);
    let error = pairs.bytes().unwrap_err();
    assert_eq!(error.message(), "the item cannot be written as JSON: key must be a string");
}
