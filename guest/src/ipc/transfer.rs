//! How the values of a type become bytes, and bytes become values.

use std::borrow::Cow;

use super::Error;

/// A type whose values an object can hold.
///
/// | type | bytes |
/// |---|---|
/// | [`String`] | its text, which must be UTF-8 |
/// | `Vec<u8>` | as they are |
/// | all other types that serde reads and writes | JSON |
///
/// Without the feature `json`: `String`, `Vec<u8>`, integers and [`bool`], in the same form.
///
/// The host, and guests in other languages, see these bytes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an item of a queue, a message, or an entry",
    note = "an item is a `String`, a `Vec<u8>`, an integer, a `bool`, or an owned type that implements \
            `serde::Serialize` and `serde::Deserialize` (as JSON, with the feature `json` of wpool-guest)"
)]
pub trait Transfer: Sized + 'static {
    /// The bytes of this value.
    #[doc(hidden)]
    fn encode(&self) -> Result<Cow<'_, [u8]>, Error>;

    /// The value of these bytes.
    #[doc(hidden)]
    fn decode(bytes: Vec<u8>) -> Result<Self, Error>;
}

/// What can be put as an item of the type `T`: a `T`, a reference to one, a string slice as a [`String`], and
/// a slice of bytes as a `Vec<u8>`.
///
/// ```no_run
/// # fn main() -> Result<(), wpool_guest::ipc::Error> {
/// use wpool_guest::ipc::Queue;
///
/// let (words, numbers) = (Queue::<String>::open("words")?, Queue::<u64>::open("numbers")?);
/// let word = String::from("one");
/// words.put(&word)?;
/// words.put(word)?;
/// words.put("two")?;
/// numbers.put(3)?;
/// # Ok(())
/// # }
/// ```
pub trait AsItem<T> {
    /// The bytes of the item.
    #[doc(hidden)]
    fn bytes(&self) -> Result<Cow<'_, [u8]>, Error>;
}

impl<T: Transfer> AsItem<T> for T {
    fn bytes(&self) -> Result<Cow<'_, [u8]>, Error> {
        self.encode()
    }
}

impl<T: Transfer> AsItem<T> for &T {
    fn bytes(&self) -> Result<Cow<'_, [u8]>, Error> {
        self.encode()
    }
}

impl AsItem<String> for &str {
    fn bytes(&self) -> Result<Cow<'_, [u8]>, Error> {
        Ok(self.as_bytes().into())
    }
}

impl AsItem<String> for &&str {
    fn bytes(&self) -> Result<Cow<'_, [u8]>, Error> {
        Ok(self.as_bytes().into())
    }
}

impl AsItem<Vec<u8>> for &[u8] {
    fn bytes(&self) -> Result<Cow<'_, [u8]>, Error> {
        Ok((*self).into())
    }
}

impl<const N: usize> AsItem<Vec<u8>> for &[u8; N] {
    fn bytes(&self) -> Result<Cow<'_, [u8]>, Error> {
        Ok(self.as_slice().into())
    }
}

fn text(bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::decode(format!("the item is not UTF-8 text: byte {at}"))
    })
}

#[cfg(feature = "json")]
mod json {
    use std::any::{Any, TypeId};

    use super::{Cow, Error, Transfer, text};

    // Rust has no specialisation. The comparisons of types are constants: the compiler keeps one case.
    impl<T: serde::Serialize + serde::de::DeserializeOwned + 'static> Transfer for T {
        fn encode(&self) -> Result<Cow<'_, [u8]>, Error> {
            let any: &dyn Any = self;
            if let Some(text) = any.downcast_ref::<String>() {
                return Ok(text.as_bytes().into());
            }
            if let Some(bytes) = any.downcast_ref::<Vec<u8>>() {
                return Ok(bytes.into());
            }
            match serde_json::to_vec(self) {
                Ok(json) => Ok(json.into()),
                Err(error) => Err(Error::encode(format!("the item cannot be written as JSON: {error}"))),
            }
        }

        fn decode(bytes: Vec<u8>) -> Result<Self, Error> {
            let is = |other| TypeId::of::<Self>() == other;
            if is(TypeId::of::<String>()) {
                return text(bytes).map(same);
            }
            if is(TypeId::of::<Vec<u8>>()) {
                return Ok(same(bytes));
            }
            serde_json::from_slice(&bytes)
                .map_err(|error| Error::decode(format!("the item is not JSON of its type: {error}")))
        }
    }

    /// The value, under the other name of its type.
    fn same<A: 'static, B: 'static>(value: A) -> B {
        let mut value = Some(value);
        let any: &mut dyn Any = &mut value;
        any.downcast_mut::<Option<B>>().and_then(Option::take).expect("the caller has compared the types")
    }
}

#[cfg(not(feature = "json"))]
mod plain {
    use super::{Cow, Error, Transfer, text};

    impl Transfer for String {
        fn encode(&self) -> Result<Cow<'_, [u8]>, Error> {
            Ok(self.as_bytes().into())
        }

        fn decode(bytes: Vec<u8>) -> Result<Self, Error> {
            text(bytes)
        }
    }

    impl Transfer for Vec<u8> {
        fn encode(&self) -> Result<Cow<'_, [u8]>, Error> {
            Ok(self.into())
        }

        fn decode(bytes: Vec<u8>) -> Result<Self, Error> {
            Ok(bytes)
        }
    }

    /// Types whose JSON is the text that `{}` shows.
    macro_rules! shown {
        ($($type:ident)*) => {$(
            impl Transfer for $type {
                fn encode(&self) -> Result<Cow<'_, [u8]>, Error> {
                    Ok(self.to_string().into_bytes().into())
                }

                fn decode(bytes: Vec<u8>) -> Result<Self, Error> {
                    let text = text(bytes)?;
                    text.trim().parse().map_err(|_| {
                        Error::decode(format!("the item is no {}: {text:?}", stringify!($type)))
                    })
                }
            }
        )*};
    }
    shown!(bool u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);
}
