use super::*;

/// Reads a text, and writes the same text.
#[track_caller]
fn round_trip(ty: &Type, text: &str) {
    reads(ty, text, text);
}

/// Reads `text`, and writes `written`.
#[track_caller]
fn reads(ty: &Type, text: &str, written: &str) {
    let value = parse_wave(text, ty).unwrap();
    assert!(value.is_of(ty), "{value:?} is not a {ty}");
    assert_eq!(to_wave(&value), written, "{text}");
}

#[track_caller]
fn refused(ty: &Type, text: &str, why: &str) {
    assert_eq!(parse_wave(text, ty).unwrap_err(), why, "{text}");
}

fn boxed(ty: Type) -> Box<Type> {
    Box::new(ty)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn params(params: &[(Option<&str>, Type)]) -> Vec<Param> {
    params.iter().map(|(name, ty)| Param { name: name.map(str::to_owned), ty: ty.clone() }).collect()
}

#[test]
fn every_kind_of_value_goes_to_wave_and_back() {
    round_trip(&Type::Bool, "true");
    round_trip(&Type::S8, "-128");
    round_trip(&Type::U64, "18446744073709551615");
    round_trip(&Type::F64, "2.5");
    round_trip(&Type::Char, "'é'");
    round_trip(&Type::String, r#""a \"quoted\" line\n""#);
    round_trip(&Type::List(boxed(Type::U8)), "[1, 2, 255]");
    round_trip(&Type::FixedList(boxed(Type::U8), 2), "[1, 2]");
    round_trip(&Type::Record(vec![("a".into(), Type::U8), ("b".into(), Type::String)]), r#"{a: 1, b: "x"}"#);
    round_trip(&Type::Tuple(vec![Type::U8, Type::Bool]), "(1, false)");
    let variant = Type::Variant(vec![("none".into(), None), ("some-of".into(), Some(Type::U8))]);
    round_trip(&variant, "some-of(7)");
    round_trip(&variant, "%none");
    round_trip(&Type::Enum(names(&["red", "green"])), "green");
    round_trip(&Type::Option(boxed(Type::U8)), "some(1)");
    round_trip(&Type::Option(boxed(Type::U8)), "none");
    round_trip(&Type::Option(boxed(Type::Option(boxed(Type::U8)))), "some(none)");
    round_trip(&Type::Result(Some(boxed(Type::U8)), None), "ok(1)");
    round_trip(&Type::Result(Some(boxed(Type::U8)), None), "err");
    round_trip(&Type::Flags(names(&["r", "w"])), "{r, w}");
}

#[test]
fn f139_wave_takes_numbers_as_people_write_them() {
    for (text, written) in [
        ("1.0", "1"),
        ("1e3", "1000"),
        ("+5", "5"),
        ("0x1f", "31"),
        ("0XFF", "255"),
        ("0b1010_1010", "170"),
        ("0o17", "15"),
        ("1_000", "1000"),
        ("\u{feff} 7\r", "7"),
    ] {
        reads(&Type::S32, text, written);
    }
    reads(&Type::S8, "-0x80", "-128");
    reads(
        &Type::List(boxed(Type::U64)),
        "[0xffff_ffff_ffff_ffff,+1,1e19]",
        "[18446744073709551615, 1, 10000000000000000000]",
    );
    for (text, written) in
        [("NaN", "nan"), ("-Infinity", "-inf"), ("Infinity", "inf"), ("+inf", "inf"), ("0x10", "16")]
    {
        reads(&Type::F64, text, written);
        reads(&Type::F32, text, written);
    }
    // A text that is not a number is not rewritten.
    reads(&Type::String, "\"0x10 +1 NaN // 'x\"", "\"0x10 +1 NaN // \\'x\"");
    reads(&Type::Char, "'+'", "'+'");
    reads(&Type::List(boxed(Type::U8)), "[0x10, // 0x11 \"\n0x12]", "[16, 18]");
    let (name, args) = parse_call("f(0x10, NaN, \"0x10\", [+1, 1_0], a-0b1)").unwrap();
    assert_eq!(
        (name.as_str(), &args[..]),
        ("f", &["0x10", "NaN", "\"0x10\"", "[+1, 1_0]", "a-0b1"].map(str::to_owned)[..])
    );
    for text in ["0x", "0xg", "1__0", "_1", "1_", "0b2", "--1", "+-1", "0x1.8", "007", "1e", "0x-1"] {
        assert!(parse_wave(text, &Type::S32).is_err(), "{text}");
        assert!(parse_wave(text, &Type::F64).is_err(), "{text}");
    }
}

#[test]
fn f139_floats_are_written_in_their_shortest_form() {
    for (n, text) in [
        (0.1, "0.1"),
        (2.0, "2"),
        (-0.0, "-0"),
        (1e300, "1e300"),
        (5e-324, "5e-324"),
        (f64::MAX, "1.7976931348623157e308"),
        (1e15, "1000000000000000"),
        (1e16, "1e16"),
        (0.000_01, "0.00001"),
        (1.5e-6, "1.5e-6"),
        (f64::NEG_INFINITY, "-inf"),
    ] {
        assert_eq!(to_wave(&Value::F64(n)), text);
        round_trip(&Type::F64, text);
    }
    assert_eq!(to_wave(&Value::F32(0.1)), "0.1");
    assert_eq!(to_wave(&Value::F32(f32::MAX)), "3.4028235e38");
    assert_eq!(to_wave(&Value::F32(f32::NAN)), "nan");
}

#[test]
fn f139_flags_records_and_keywords_have_waves_own_spelling() {
    let flags = Type::Flags(names(&["read", "write", "none", "x1"]));
    for (text, written) in [
        ("{read, write}", "{read, write}"),
        ("{%write,%none,}", "{write, none}"),
        ("{}", "{}"),
        ("{:}", "{}"),
        ("{none, read}", "{read, none}"),
    ] {
        reads(&flags, text, written);
    }
    let record = Type::Record(vec![
        ("first-one".into(), Type::Option(boxed(Type::U8))),
        ("true".into(), Type::Option(boxed(Type::U8))),
    ]);
    for (text, written) in [
        ("{:}", "{:}"),
        ("{}", "{:}"),
        ("{true: 1}", "{true: some(1)}"),
        ("{%true: some(1), %first-one: none}", "{true: some(1)}"),
    ] {
        reads(&record, text, written);
    }
    let words = Type::Enum(names(&["ok", "err", "none", "true", "nan", "inf", "plain"]));
    for word in ["ok", "err", "none", "true", "nan", "inf"] {
        reads(&words, word, &format!("%{word}"));
        round_trip(&words, &format!("%{word}"));
    }
    let variant = Type::Variant(vec![
        ("none".into(), None),
        ("some".into(), Some(Type::U32)),
        ("HTTP-error".into(), Some(Type::U32)),
    ]);
    for (text, written) in [
        ("none", "%none"),
        ("some(7)", "%some(7)"),
        ("%some(7)", "%some(7)"),
        ("HTTP-error(1)", "HTTP-error(1)"),
    ] {
        reads(&variant, text, written);
    }
    // Where the type allows both meanings, a keyword has the meaning that WAVE gives it.
    reads(&Type::Option(boxed(words.clone())), "none", "none");
    reads(&Type::Option(boxed(words)), "some(none)", "some(%none)");
}

#[test]
fn f147_bytes_may_be_written_as_a_string() {
    let bytes = Type::List(boxed(Type::U8));
    reads(&bytes, r#""a\n""#, "[97, 10]");
    reads(&Type::Option(boxed(bytes.clone())), r#"some("a")"#, "some([97])");
    let read =
        parse_many(r#"("ab", 7)"#, &params(&[(None, bytes), (None, Type::U8)]), Integers::OfType).unwrap();
    assert_eq!(read, [Value::from(&b"ab"[..]), Value::U8(7)]);
    assert!(parse_wave(r#""ab""#, &Type::List(boxed(Type::S8))).is_err());
}

#[test]
fn f147_a_wrong_value_is_told_with_what_to_write() {
    refused(&Type::U32, "\"seven\"", "expected u32 such as 7, got \"seven\"");
    refused(&Type::U8, "300", "expected u8, got 300, which is not within 0 to 255");
    refused(&Type::S8, "0x80", "expected s8, got 0x80, which is not within -128 to 127");
    refused(
        &Type::S32,
        "4294967295",
        "expected s32, got 4294967295, which is not within -2147483648 to 2147483647",
    );
    refused(&Type::U8, "2.5", "expected u8 such as 7, got 2.5");
    refused(&Type::F32, "1e39", "expected f32, got 1e39, which is too large for one");
    refused(&Type::String, "hello", "expected string such as \"text\", got hello");
    refused(
        &Type::String,
        "hello world",
        "expected string such as \"text\", got hello world: world is behind the value",
    );
    refused(
        &Type::String,
        "\"open",
        "expected string such as \"text\", got \"open: it is no WAVE from \"open on",
    );
    refused(&Type::U8, "", "expected u8 such as 7, got nothing: something is missing at its end");
    refused(
        &Type::List(boxed(Type::U8)),
        "[1, 2",
        "expected list<u8> such as [7], got [1, 2: something is missing at its end",
    );
    refused(&Type::List(boxed(Type::U8)), "[1, x]", "at [1]: expected u8 such as 7, got x");
    refused(
        &Type::FixedList(boxed(Type::U8), 3),
        "[1, 2]",
        "expected list<u8, 3> such as [7, 7, 7], got [1, 2]",
    );
    let record = Type::Record(vec![("x".into(), Type::U8), ("y".into(), Type::U8)]);
    refused(&record, "{x: 1}", "y is missing: expected u8 such as 7");
    refused(&record, "{x: 1, z: 1}", "z is no field of record { x: u8, y: u8 } such as {x: 7, y: 7}");
    refused(&record, "{x: 1, y: a}", "at .y: expected u8 such as 7, got a");
    let option = Type::Option(boxed(Type::Option(boxed(Type::U8))));
    refused(&option, "5", "expected option<option<u8>> such as some(some(7)), got 5");
    let result = Type::Result(Some(boxed(Type::U8)), None);
    refused(&result, "ok", "ok needs a value of type u8, as in ok(7)");
    refused(&result, "err(1)", "err has no value, got 1");
    refused(&Type::Flags(names(&["r", "w"])), "{x}", "x is no flag of flags { r, w } such as {r, w}");
    refused(
        &Type::Enum(names(&["red", "green"])),
        "blue",
        "expected enum { red, green } such as red, got blue",
    );
    let long = "x".repeat(1 << 20);
    assert!(parse_wave(&format!("\"{long}\""), &Type::U8).unwrap_err().len() < 100);
}

#[test]
fn f147_several_parameters_are_a_tuple_and_that_is_shown() {
    let both = params(&[(Some("n"), Type::S32), (Some("factor"), Type::F64)]);
    let many = |text: &str, params: &[Param]| parse_many(text, params, Integers::OfType);
    assert_eq!(many("(7, 2.5)", &both).unwrap(), [Value::S32(7), Value::F64(2.5)]);
    for text in ["7,2.5", "7", "7 2.5", "[7, 2.5]", "(7)", "(7, 2.5, 1)", ""] {
        let said = many(text, &both).unwrap_err();
        assert!(
            said.starts_with(
                "expected a value for each of 2 parameters, tuple<s32, f64> such as (7, 2.5), got "
            ),
            "{said}"
        );
    }
    assert_eq!(many("(7, x)", &both).unwrap_err(), "at factor: expected f64 such as 2.5, got x");
    let unnamed = params(&[(None, Type::S32), (None, Type::F64)]);
    assert_eq!(many("(7, x)", &unnamed).unwrap_err(), "at value 2: expected f64 such as 2.5, got x");
    let core = parse_many("(4294967295, 1)", &unnamed, Integers::OfBits).unwrap();
    assert_eq!(core, [Value::S32(-1), Value::F64(1.0)]);
}

#[test]
fn a_call_is_split_into_its_name_and_arguments() {
    let (name, args) = parse_call("demo:math/ops#scale(7, \"a, b\", {x: 1})").unwrap();
    assert_eq!(name, "demo:math/ops#scale");
    assert_eq!(args, ["7", "\"a, b\"", "{x: 1}"]);
    assert_eq!(parse_call("now()").unwrap(), ("now".to_owned(), vec![]));
    assert_eq!(parse_call("now").unwrap(), ("now".to_owned(), vec![]));
    assert_eq!(parse_call("f(1").unwrap_err(), "something is missing at its end");
    assert_eq!(parse_call("f(1 2)").unwrap_err(), "2 is not expected there");
}

#[cfg(feature = "worker")]
#[test]
fn f113_options_that_are_left_out_are_limited_before_they_are_built() {
    let option = |n| (format!("field-{n}"), Type::Option(Box::new(Type::U8)));
    let wide = Type::List(Box::new(Type::Record((0..1000).map(option).collect())));
    let wave = |count| format!("[{}]", vec!["{:}"; count].join(", "));
    let json = |count| format!("[{}]", vec!["{}"; count].join(","));
    let read = |text: &str| [parse_wave(text, &wide), crate::value::from_json(text, &wide, Integers::OfType)];
    assert!(read(&wave(600))[0].is_ok() && read(&json(600))[1].is_ok());
    for (text, which) in [(wave(13_000), 0), (json(21_000), 1)] {
        let error = read(&text)[which].clone().unwrap_err();
        assert!(error.contains("limit of 699050 options"), "{error}");
    }
}

#[cfg(feature = "worker")]
#[test]
fn a_type_with_many_names_is_read_by_its_table() {
    let names: Vec<String> = (0..40).map(|n| format!("name-{n}")).collect();
    let flags = Type::Flags(names.clone());
    let each = |n: usize| (names[n].clone(), n.is_multiple_of(2).then_some(Type::U8));
    let variant = Type::Variant((0..40).map(each).collect());
    let ty = Type::Tuple(vec![flags, Type::Enum(names.clone()), variant]);
    for (text, wave) in [
        (r#"[["name-39","name-3"],"name-17",{"name-8":7}]"#, "({name-39, name-3}, name-17, name-8(7))"),
        (r#"[[],"name-0","name-39"]"#, "({}, name-0, name-39)"),
    ] {
        let read = crate::value::from_json(text, &ty, Integers::OfType);
        assert!(read.is_ok() && read == parse_wave(wave, &ty), "{read:?}");
    }
    for (text, wave) in [
        (r#"[["name-40"],"name-0","name-1"]"#, "({name-40}, name-0, name-1)"),
        (r#"[[],"name","name-1"]"#, "({}, name, name-1)"),
        (r#"[[],"name-0",{"name-40":1}]"#, "({}, name-0, name-40(1))"),
    ] {
        assert!(
            crate::value::from_json(text, &ty, Integers::OfType).is_err() && parse_wave(wave, &ty).is_err()
        );
    }
}
