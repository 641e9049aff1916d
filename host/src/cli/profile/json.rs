//! Reads and writes a profile's JSON as slices of its text.
//!
//! A profile comes from a worker, has tens of megabytes, and may be an attacker's. A tree of it would take a
//! hundred times as much memory, so only the fields of a few objects are read, each as its text.

use std::fmt;
use std::io::{self, Write};

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Fields of one object that are read. The objects of a profile have about thirty.
pub(super) const FIELDS_MAX: usize = 256;

/// The fields of an object in their order, each with the text of its value.
#[derive(Default)]
pub(super) struct Fields<'j>(pub(super) Vec<(String, &'j RawValue)>);

impl<'j> Fields<'j> {
    pub(super) fn read(text: &'j str) -> Option<Fields<'j>> {
        serde_json::from_str(text).ok()
    }

    pub(super) fn get(&self, key: &str) -> Option<&'j str> {
        self.0.iter().find(|(of, _)| of == key).map(|(_, value)| value.get())
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of a profile")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some(field) = map.next_entry()? {
                    fields.0.push(field);
                    if fields.0.len() > FIELDS_MAX {
                        return Err(A::Error::custom("more fields than a profile has"));
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// At most `MOST` elements of an array, each as its text.
pub(super) struct Elements<'j, const MOST: usize>(pub(super) Vec<&'j RawValue>);

impl<'de, const MOST: usize> Deserialize<'de> for Elements<'de, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<const MOST: usize>;
        impl<'de, const MOST: usize> Visitor<'de> for Reader<MOST> {
            type Value = Elements<'de, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of a profile")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element()? {
                    elements.push(element);
                    if elements.len() > MOST {
                        return Err(A::Error::custom("more elements than a profile has"));
                    }
                }
                Ok(Elements(elements))
            }
        }
        deserializer.deserialize_seq(Reader::<MOST>)
    }
}

/// JSON whose texts, numbers and depth all readers accept. After this check, slices of it are passed on
/// unchanged.
pub(super) struct Sound;

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Sound;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E: Error>(self) -> Result<Sound, E> {
                Ok(Sound)
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Sound, E> {
                Ok(Sound)
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Sound, E> {
                Ok(Sound)
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Sound, E> {
                Ok(Sound)
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Sound, E> {
                Ok(Sound)
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Sound, E> {
                Ok(Sound)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Sound, A::Error> {
                while seq.next_element::<Sound>()?.is_some() {}
                Ok(Sound)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sound, A::Error> {
                while map.next_entry::<Sound, Sound>()?.is_some() {}
                Ok(Sound)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// The first number of an array, and the count.
pub(super) struct Deltas {
    pub(super) first: Option<f64>,
    pub(super) count: u64,
}

impl<'de> Deserialize<'de> for Deltas {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Deltas;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the times of samples")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Deltas, A::Error> {
                let first = seq.next_element()?;
                let mut count = u64::from(first.is_some());
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Deltas { first, count })
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

/// Writes an array of places in the list of libraries, each shifted by `by`.
pub(super) fn write_shifted(out: &mut impl Write, places: &str, by: u64) -> Option<()> {
    struct Writer<'w, W>(&'w mut W, u64);
    impl<'de, W: Write> Visitor<'de> for Writer<'_, W> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("places of libraries")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
            let (mut separator, failed) = ("[", |e: io::Error| A::Error::custom(e));
            while let Some(place) = seq.next_element::<u64>()? {
                let place = place.checked_add(self.1).ok_or_else(|| A::Error::custom("no such library"))?;
                write!(self.0, "{separator}{place}").map_err(failed)?;
                separator = ",";
            }
            self.0.write_all(if separator == "[" { b"[]" } else { b"]" }).map_err(failed)
        }
    }
    let mut text = serde_json::Deserializer::from_str(places);
    serde::Deserializer::deserialize_seq(&mut text, Writer(out, by)).ok()
}

/// Writes an object; `each` writes a value.
pub(super) fn write_object<W: Write>(
    out: &mut W,
    fields: &Fields<'_>,
    each: impl FnMut(&mut W, &str, &RawValue) -> Option<()>,
) -> Option<()> {
    out.write_all(b"{").ok()?;
    write_fields(out, fields, each)?;
    out.write_all(b"}").ok()
}

pub(super) fn write_fields<W: Write>(
    out: &mut W,
    fields: &Fields<'_>,
    mut each: impl FnMut(&mut W, &str, &RawValue) -> Option<()>,
) -> Option<()> {
    for (at, (key, value)) in fields.0.iter().enumerate() {
        out.write_all(if at > 0 { b"," } else { b"" }).ok()?;
        serde_json::to_writer(&mut *out, key).ok()?;
        out.write_all(b":").ok()?;
        each(out, key, value)?;
    }
    Some(())
}
