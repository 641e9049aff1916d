//! Which Rust type is which WIT type, and how its values are read and written.

use std::borrow::Cow;
use std::fmt::Display;
use std::marker::PhantomData;

use super::memory::{Sink, Source};
use super::types::{Layout, Type};

/// A Rust type that has a WIT type. `#[derive(ComponentType)]` implements it for structs and enums.
///
/// | Rust | WIT |
/// |---|---|
/// | [`bool`], [`char`], `u8` to `u64`, [`f32`], [`f64`] | the same |
/// | `i8` to `i64` | `s8` to `s64` |
/// | [`usize`], [`isize`] | `u32`, `s32` |
/// | [`String`], `&str` | `string` |
/// | `Vec<T>`, `&[T]`, `[T; N]` | `list<T>`, so `Vec<u8>` is `list<u8>` |
/// | `Option<T>`, `Result<T, E>`, tuples | the same |
/// | `Box<T>` | that of T |
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no WIT type",
    label = "a task cannot take or return this",
    note = "a task takes and returns numbers, `bool`, `char`, `String`, `&str`, `Vec<T>`, `&[T]`, \
            `Option<T>`, `Result<T, E>` and tuples",
    note = "for a struct or an enum of your own: `#[derive(wpool_guest::ComponentType)]`",
    note = "for a type of serde, as JSON: `#[wpool_guest::task(json)]`"
)]
pub trait ComponentType {
    /// The WIT type.
    #[doc(hidden)]
    const TYPE: &'static Type;
}

/// A type that a task may take as a parameter.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a task",
    label = "has no WIT type",
    note = "a task takes numbers, `bool`, `char`, `String`, `&str`, `Vec<T>`, `&[T]`, `Option<T>`, \
            `Result<T, E>` and tuples; no references within other types",
    note = "for a struct or an enum of your own: `#[derive(wpool_guest::ComponentType)]`",
    note = "for a type of serde, as JSON: `#[wpool_guest::task(json)]`"
)]
pub trait Lift: ComponentType + Sized {
    /// Reads a value.
    #[doc(hidden)]
    fn lift(source: &mut Source<'_>) -> Self;

    /// Reads a list.
    #[doc(hidden)]
    fn lift_list(source: &mut Source<'_>) -> Vec<Self> {
        source.list(const { Layout::of(Self::TYPE) }, Self::lift)
    }
}

/// A type that a task may return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a task",
    label = "has no WIT type",
    note = "a task returns nothing, numbers, `bool`, `char`, `String`, `&str`, `Vec<T>`, `Option<T>`, \
            tuples, or a `Result<T, E>` whose error implements `Display` or has a WIT type",
    note = "for a struct or an enum of your own: `#[derive(wpool_guest::ComponentType)]`",
    note = "for a type of serde, as JSON: `#[wpool_guest::task(json)]`"
)]
pub trait Lower: ComponentType + Sized {
    /// Writes a value.
    #[doc(hidden)]
    fn lower(self, sink: &mut Sink<'_>);

    /// Writes a list.
    #[doc(hidden)]
    fn lower_list(list: Vec<Self>, sink: &mut Sink<'_>) {
        sink.list(const { Layout::of(Self::TYPE) }, list, |sink, value| value.lower(sink));
    }

    /// The bytes of a list of bytes.
    #[doc(hidden)]
    fn list_into_record(_list: Vec<Self>) -> Result<Vec<u8>, String> {
        Err(NO_RECORD.to_owned())
    }

    /// The bytes of a text, of bytes, or of a `Result` of these: for `run-many`, which serves no other types.
    #[doc(hidden)]
    fn into_record(self) -> Result<Vec<u8>, String> {
        Err(NO_RECORD.to_owned())
    }
}

/// The host asks for records only where the type of the result is one.
const NO_RECORD: &str = "the result is neither a string nor bytes";

/// A type behind the `&` of a parameter.
#[diagnostic::on_unimplemented(
    message = "a task cannot take a reference to `{Self}`",
    label = "has no WIT type",
    note = "a task takes `&str`, `&[T]`, and references to types that have a WIT type",
    note = "for a struct or an enum of your own: `#[derive(wpool_guest::ComponentType)]`",
    note = "for a type of serde, as JSON: `#[wpool_guest::task(json)]`"
)]
pub trait Referent {
    /// What is read.
    type Owned: Lift;
    /// What the function gets.
    fn of(owned: &Self::Owned) -> &Self;
}

impl<T: Lift> Referent for T {
    type Owned = T;
    fn of(owned: &T) -> &T {
        owned
    }
}

impl Referent for str {
    type Owned = String;
    fn of(owned: &String) -> &str {
        owned
    }
}

impl<T: Lift> Referent for [T] {
    type Owned = Vec<T>;
    fn of(owned: &Vec<T>) -> &[T] {
        owned
    }
}

/// The WIT type of `T`, or `()` for a type without one: the compiler prefers the items of a type itself,
/// where their bounds hold, to those of a trait. So a missing type is reported once, where its values are read
/// or written.
#[derive(Debug)]
pub struct Described<T>(PhantomData<T>);

impl<T: ComponentType> Described<T> {
    /// The WIT type.
    pub const TYPE: &'static Type = T::TYPE;
}

/// See [`Described`].
pub trait Undescribed {
    /// Not the WIT type.
    const TYPE: &'static Type = &Type::Unit;
}

impl<T> Undescribed for Described<T> {}

/// What a task returns: see [`Displayed`].
#[derive(Debug)]
pub struct Returned<T>(PhantomData<T>);

impl<T: Lower> Returned<T> {
    /// The WIT type.
    pub const TYPE: &'static Type = T::TYPE;

    /// Writes it.
    pub fn lower(returned: T, sink: &mut Sink<'_>) {
        returned.lower(sink);
    }

    /// See [`Lower::into_record`].
    pub fn into_record(returned: T) -> Result<Vec<u8>, String> {
        returned.into_record()
    }
}

/// A `Result` whose error has no WIT type, but a message. The compiler prefers the items of [`Returned`]
/// itself where their bounds hold.
pub trait Displayed<U> {
    /// The WIT type.
    const TYPE: &'static Type;
    /// Writes it.
    fn lower(returned: U, sink: &mut Sink<'_>);
    /// See [`Lower::into_record`].
    fn into_record(returned: U) -> Result<Vec<u8>, String>;
}

impl<T: Lower, E: Display> Displayed<Result<T, E>> for Returned<Result<T, E>> {
    const TYPE: &'static Type = &Type::Result { ok: T::TYPE, err: &Type::String };

    fn lower(returned: Result<T, E>, sink: &mut Sink<'_>) {
        message_of(returned).lower(sink);
    }

    fn into_record(returned: Result<T, E>) -> Result<Vec<u8>, String> {
        message_of(returned).into_record()
    }
}

/// The error's message in its alternate form, in which `anyhow` and its like name the causes.
fn message_of<T, E: Display>(returned: Result<T, E>) -> Result<T, String> {
    returned.map_err(|error| format!("{error:#}"))
}

/// A number that is laid out in memory as Rust does.
pub(super) trait Plain: Copy {}

macro_rules! numbers {
    ($($rust:ident $wit:ident $bits:ident;)*) => {$(
        impl Plain for $rust {}
        impl ComponentType for $rust {
            const TYPE: &'static Type = &Type::$wit;
        }
        impl Lift for $rust {
            #[inline]
            fn lift(source: &mut Source<'_>) -> Self {
                // The bits of a core value: a narrow number is in the low ones.
                source.number::<{ size_of::<$rust>() }>() as $bits as $rust
            }
            fn lift_list(source: &mut Source<'_>) -> Vec<Self> {
                source.plain_list()
            }
        }
        impl Lower for $rust {
            #[inline]
            fn lower(self, sink: &mut Sink<'_>) {
                sink.number::<{ size_of::<$rust>() }>(self as i64 as u64);
            }
            fn lower_list(list: Vec<Self>, sink: &mut Sink<'_>) {
                sink.plain_list(list);
            }
        }
    )*};
}
numbers! {
    u16 U16 u16; u32 U32 u32; u64 U64 u64;
    i8 S8 u8; i16 S16 u16; i32 S32 u32; i64 S64 u64;
}

impl Plain for u8 {}
impl ComponentType for u8 {
    const TYPE: &'static Type = &Type::U8;
}
impl Lift for u8 {
    #[inline]
    fn lift(source: &mut Source<'_>) -> Self {
        source.number::<1>() as u8
    }
    fn lift_list(source: &mut Source<'_>) -> Vec<Self> {
        source.plain_list()
    }
}
impl Lower for u8 {
    #[inline]
    fn lower(self, sink: &mut Sink<'_>) {
        sink.number::<1>(self.into());
    }
    fn lower_list(list: Vec<Self>, sink: &mut Sink<'_>) {
        sink.plain_list(list);
    }
    fn list_into_record(list: Vec<Self>) -> Result<Vec<u8>, String> {
        Ok(list)
    }
}

macro_rules! floats {
    ($($rust:ident $wit:ident $bits:ident;)*) => {$(
        impl Plain for $rust {}
        impl ComponentType for $rust {
            const TYPE: &'static Type = &Type::$wit;
        }
        impl Lift for $rust {
            #[inline]
            fn lift(source: &mut Source<'_>) -> Self {
                $rust::from_bits(source.number::<{ size_of::<$rust>() }>() as $bits)
            }
            fn lift_list(source: &mut Source<'_>) -> Vec<Self> {
                source.plain_list()
            }
        }
        impl Lower for $rust {
            #[inline]
            fn lower(self, sink: &mut Sink<'_>) {
                sink.number::<{ size_of::<$rust>() }>(self.to_bits().into());
            }
            fn lower_list(list: Vec<Self>, sink: &mut Sink<'_>) {
                sink.plain_list(list);
            }
        }
    )*};
}
floats! { f32 F32 u32; f64 F64 u64; }

/// Types that are passed as another one.
macro_rules! passed_as {
    ($($rust:ty as $other:ty: |$in:ident| $lift:expr, |$out:ident| $lower:expr;)*) => {$(
        impl ComponentType for $rust {
            const TYPE: &'static Type = <$other>::TYPE;
        }
        impl Lift for $rust {
            #[inline]
            fn lift(source: &mut Source<'_>) -> Self {
                let $in = <$other>::lift(source);
                $lift
            }
        }
        impl Lower for $rust {
            #[inline]
            fn lower(self, sink: &mut Sink<'_>) {
                let $out = self;
                <$other>::lower($lower, sink);
            }
        }
    )*};
}
passed_as! {
    usize as u32: |number| number as usize, |size| narrow(size);
    isize as i32: |number| number as isize, |size| narrow(size);
}

/// A size has 32 bits in a guest. In a unit test on another machine it may have more.
fn narrow<T: TryInto<U>, U>(size: T) -> U {
    size.try_into().unwrap_or_else(|_| panic!("a size of more than 32 bits"))
}

impl ComponentType for bool {
    const TYPE: &'static Type = &Type::Bool;
}
impl Lift for bool {
    #[inline]
    fn lift(source: &mut Source<'_>) -> Self {
        source.number::<1>() as u8 != 0
    }
}
impl Lower for bool {
    #[inline]
    fn lower(self, sink: &mut Sink<'_>) {
        sink.number::<1>(self.into());
    }
}

impl ComponentType for char {
    const TYPE: &'static Type = &Type::Char;
}
impl Lift for char {
    #[inline]
    fn lift(source: &mut Source<'_>) -> Self {
        // The host has checked that it is one.
        char::from_u32(source.number::<4>() as u32).unwrap_or(char::REPLACEMENT_CHARACTER)
    }
}
impl Lower for char {
    #[inline]
    fn lower(self, sink: &mut Sink<'_>) {
        sink.number::<4>(u32::from(self).into());
    }
}

impl ComponentType for String {
    const TYPE: &'static Type = &Type::String;
}
impl Lift for String {
    fn lift(source: &mut Source<'_>) -> Self {
        source.text()
    }
}
impl Lower for String {
    fn lower(self, sink: &mut Sink<'_>) {
        sink.plain_list(self.into_bytes());
    }
    fn into_record(self) -> Result<Vec<u8>, String> {
        Ok(self.into_bytes())
    }
}

impl<T: ComponentType> ComponentType for Vec<T> {
    const TYPE: &'static Type = &Type::List(T::TYPE);
}
impl<T: Lift> Lift for Vec<T> {
    fn lift(source: &mut Source<'_>) -> Self {
        T::lift_list(source)
    }
}
impl<T: Lower> Lower for Vec<T> {
    fn lower(self, sink: &mut Sink<'_>) {
        T::lower_list(self, sink);
    }
    fn into_record(self) -> Result<Vec<u8>, String> {
        T::list_into_record(self)
    }
}

/// Results that are written as another type. A task cannot take them.
macro_rules! written_as {
    ($($rust:ty as $other:ty: |$value:ident| $lower:expr;)*) => {$(
        impl ComponentType for $rust {
            const TYPE: &'static Type = <$other>::TYPE;
        }
        impl Lower for $rust {
            fn lower(self, sink: &mut Sink<'_>) {
                let $value = self;
                <$other>::lower($lower, sink);
            }
            fn into_record(self) -> Result<Vec<u8>, String> {
                let $value = self;
                <$other>::into_record($lower)
            }
        }
    )*};
}
written_as! {
    &str as String: |text| text.to_owned();
    Box<str> as String: |text| text.into_string();
    Cow<'_, str> as String: |text| text.into_owned();
}

impl<T: ComponentType> ComponentType for &[T] {
    const TYPE: &'static Type = &Type::List(T::TYPE);
}
impl<T: Lower + Clone> Lower for &[T] {
    fn lower(self, sink: &mut Sink<'_>) {
        T::lower_list(self.to_vec(), sink);
    }
    fn into_record(self) -> Result<Vec<u8>, String> {
        T::list_into_record(self.to_vec())
    }
}

impl<T: ComponentType> ComponentType for &T {
    const TYPE: &'static Type = T::TYPE;
}
impl<T: Lower + Clone> Lower for &T {
    fn lower(self, sink: &mut Sink<'_>) {
        self.clone().lower(sink);
    }
    fn into_record(self) -> Result<Vec<u8>, String> {
        self.clone().into_record()
    }
}

impl<T: ComponentType, const N: usize> ComponentType for [T; N] {
    const TYPE: &'static Type = &Type::List(T::TYPE);
}
impl<T: Lift, const N: usize> Lift for [T; N] {
    fn lift(source: &mut Source<'_>) -> Self {
        let list = T::lift_list(source);
        let len = list.len();
        list.try_into().unwrap_or_else(|_| panic!("expected a list of {N} elements, got {len}"))
    }
}
impl<T: Lower, const N: usize> Lower for [T; N] {
    fn lower(self, sink: &mut Sink<'_>) {
        T::lower_list(self.into(), sink);
    }
    fn into_record(self) -> Result<Vec<u8>, String> {
        T::list_into_record(self.into())
    }
}

impl<T: ComponentType> ComponentType for Box<T> {
    const TYPE: &'static Type = T::TYPE;
}
impl<T: Lift> Lift for Box<T> {
    fn lift(source: &mut Source<'_>) -> Self {
        Box::new(T::lift(source))
    }
}
impl<T: Lower> Lower for Box<T> {
    fn lower(self, sink: &mut Sink<'_>) {
        (*self).lower(sink);
    }
}

impl ComponentType for () {
    const TYPE: &'static Type = &Type::Unit;
}
impl Lift for () {
    fn lift(_source: &mut Source<'_>) -> Self {}
}
impl Lower for () {
    fn lower(self, _sink: &mut Sink<'_>) {}
}

impl<T: ComponentType> ComponentType for Option<T> {
    const TYPE: &'static Type = &Type::Option(T::TYPE);
}
impl<T: Lift> Lift for Option<T> {
    fn lift(source: &mut Source<'_>) -> Self {
        let layout = const { Layout::of(Self::TYPE) };
        source.group(layout, |source| (source.case(layout) != 0).then(|| T::lift(source)))
    }
}
impl<T: Lower> Lower for Option<T> {
    fn lower(self, sink: &mut Sink<'_>) {
        let layout = const { Layout::of(Self::TYPE) };
        sink.group(layout, |sink| {
            sink.case(layout, self.is_some().into());
            if let Some(value) = self {
                value.lower(sink);
            }
        });
    }
}

impl<T: ComponentType, E: ComponentType> ComponentType for Result<T, E> {
    const TYPE: &'static Type = &Type::Result { ok: T::TYPE, err: E::TYPE };
}
impl<T: Lift, E: Lift> Lift for Result<T, E> {
    fn lift(source: &mut Source<'_>) -> Self {
        let layout = const { Layout::of(Self::TYPE) };
        source.group(layout, |source| match source.case(layout) {
            0 => Ok(T::lift(source)),
            _ => Err(E::lift(source)),
        })
    }
}
impl<T: Lower, E: Lower> Lower for Result<T, E> {
    fn lower(self, sink: &mut Sink<'_>) {
        let layout = const { Layout::of(Self::TYPE) };
        sink.group(layout, |sink| {
            sink.case(layout, self.is_err().into());
            match self {
                Ok(value) => value.lower(sink),
                Err(error) => error.lower(sink),
            }
        });
    }
    fn into_record(self) -> Result<Vec<u8>, String> {
        match self {
            Ok(value) => value.into_record(),
            Err(error) => {
                let message = error.into_record()?;
                Err(String::from_utf8(message).unwrap_or_else(|_| NO_RECORD.to_owned()))
            }
        }
    }
}

macro_rules! tuples {
    ($(($($name:ident)+))*) => {$(
        impl<$($name: ComponentType),+> ComponentType for ($($name,)+) {
            const TYPE: &'static Type = &Type::Tuple(&[$($name::TYPE),+]);
        }
        impl<$($name: Lift),+> Lift for ($($name,)+) {
            fn lift(source: &mut Source<'_>) -> Self {
                source.group(const { Layout::of(Self::TYPE) }, |source| ($($name::lift(source),)+))
            }
        }
        impl<$($name: Lower),+> Lower for ($($name,)+) {
            fn lower(self, sink: &mut Sink<'_>) {
                #[allow(non_snake_case, reason = "the names of the types serve for the values")]
                sink.group(const { Layout::of(Self::TYPE) }, |sink| {
                    let ($($name,)+) = self;
                    $($name.lower(sink);)+
                });
            }
        }
    )*};
}
tuples! {
    (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H)
    (A B C D E F G H I) (A B C D E F G H I J) (A B C D E F G H I J K) (A B C D E F G H I J K L)
}

/// Reads the flags of a `flags`: one bit each, in their order.
pub fn lift_flags(source: &mut Source<'_>, count: usize) -> u32 {
    match count {
        0..=8 => source.number::<1>() as u32,
        9..=16 => source.number::<2>() as u32,
        _ => source.number::<4>() as u32,
    }
}

/// Writes flags.
pub fn lower_flags(sink: &mut Sink<'_>, count: usize, flags: u32) {
    match count {
        0..=8 => sink.number::<1>(flags.into()),
        9..=16 => sink.number::<2>(flags.into()),
        _ => sink.number::<4>(flags.into()),
    }
}

/// Reads the number of the case of an `enum`.
pub fn lift_enum(source: &mut Source<'_>, count: usize) -> usize {
    match count {
        0..=0x100 => source.number::<1>() as usize,
        0x101..=0x1_0000 => source.number::<2>() as usize,
        _ => source.number::<4>() as usize,
    }
}

/// Writes the number of the case of an `enum`.
pub fn lower_enum(sink: &mut Sink<'_>, count: usize, case: usize) {
    match count {
        0..=0x100 => sink.number::<1>(case as u64),
        0x101..=0x1_0000 => sink.number::<2>(case as u64),
        _ => sink.number::<4>(case as u64),
    }
}
