;; A function with a parameter for a large fixed argument. The result is the sum of both lengths, and of the
;; last byte of the fixed argument.
(component
  (core module $guest
    (memory (export "memory") 2)
    (global $free (mut i32) (i32.const 65536))

    ;; The host calls this for the memory of an argument. Allocates upwards, and grows the memory when it is
    ;; full.
    (func (export "cabi_realloc")
      (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
      (local $start i32)
      (local.set $start (global.get $free))
      (global.set $free (i32.add (local.get $start) (local.get $len)))
      (block $fits
        (br_if $fits (i32.le_u (global.get $free) (i32.shl (memory.size) (i32.const 16))))
        (if (i32.eq
            (memory.grow (i32.add (i32.shr_u (local.get $len) (i32.const 16)) (i32.const 1)))
            (i32.const -1))
          (then (unreachable))))
      (local.get $start))

    (func (export "run")
      (param $fixed i32) (param $fixed_len i32) (param $record i32) (param $len i32) (result i32)
      (i32.add
        (i32.add (local.get $fixed_len) (local.get $len))
        (i32.load8_u (i32.sub (i32.add (local.get $fixed) (local.get $fixed_len)) (i32.const 1))))))

  (core instance $instance (instantiate $guest))
  (func $run (param "fixed" (list u8)) (param "record" string) (result u32)
    (canon lift
      (core func $instance "run")
      (memory (core memory $instance "memory"))
      (realloc (core func $instance "cabi_realloc"))))
  (export "run" (func $run)))
