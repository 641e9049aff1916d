use super::memory::Kept;
use super::*;

/// A value through memory and back, as a result and then a parameter.
fn through_memory<T: Lift + Lower>(value: T) -> T {
    let mut kept = Kept::new();
    let layout = const { Layout::of(T::TYPE) };
    // Enough core values for a result in memory, whatever the type is.
    let start = Sink::result(Layout { flat: 2, ..layout }, &mut kept).write(|sink| value.lower(sink));
    // The lists in it belong to the value that is read: what `kept` has of them is forgotten.
    // The value itself is not freed, which costs a test a few bytes.
    let start = std::ptr::with_exposed_provenance(start as usize);
    #[expect(unsafe_code, reason = "the memory was written just above")]
    // SAFETY: `write` has written a value of this type there.
    T::lift(&mut unsafe { Source::memory(start) })
}

#[test]
fn values_go_through_memory_unchanged() {
    assert_eq!(through_memory((1_u8, -2_i16, 3_u32, -4_i64)), (1, -2, 3, -4));
    assert_eq!(through_memory((true, 'ä', 1.5_f32, -0.25_f64)), (true, 'ä', 1.5, -0.25));
    assert_eq!(through_memory(vec![Some("a".to_owned()), None]), [Some("a".to_owned()), None]);
    assert_eq!(through_memory((7_u8, vec![(1_u8, 2_u64)], 8_u8)), (7, vec![(1, 2)], 8));
    let results = vec![Ok((1_u8, 2_u64)), Err("no".to_owned())];
    assert_eq!(through_memory(results.clone()), results);
    assert_eq!(through_memory(vec![vec![1.0_f64], vec![]]), [vec![1.0], vec![]]);
}

#[test]
fn variants_join_the_core_values_of_their_cases() {
    const CASES: &Type = &Type::Result { ok: &Type::F32, err: &Type::Tuple(&[&Type::U32, &Type::F64]) };
    const FUNCTION: Function =
        Function { name: "f", params: &[Named { name: "x", ty: CASES }], result: &Type::Bool };
    let flat = Flat::params(&FUNCTION);
    // i32, then i32 for f32 and u32, then f64.
    assert_eq!([0, 1, 2, 3].map(|at| flat.kind(at)), [1, 1, 4, 0]);
}

/// The form of the sections that wit-bindgen writes, without their last part, which names the tools.
#[test]
fn the_section_has_the_form_of_wit_bindgens() {
    const RESULT: &Type = &Type::Result { ok: &Type::List(&Type::U8), err: &Type::String };
    const INPUT: &[Named] = &[Named { name: "input", ty: &Type::List(&Type::U8) }];
    const FUNCTION: Function = Function { name: "run", params: INPUT, result: RESULT };
    const SECTION: [u8; section_len(&FUNCTION)] = section(&FUNCTION);
    let expected: &[u8] = b"\0asm\x0d\0\x01\0\0\x19\x16wit-component-encoding\x04\0\x07:\x01A\x02\x01A\x05\
        \x01p}\x01p}\x01j\x01\x01\x01s\x01@\x01\x05input\0\0\x02\x04\0\x03run\x01\x03\
        \x04\0\x0fwpool:guest/run\x04\0\x0b\x09\x01\0\x03run\x03\0\0";
    assert_eq!(SECTION, expected);
}
