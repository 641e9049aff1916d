;; Work of any length. The record is "ROUNDS SEED", both decimal. The result is SEED after ROUNDS rounds of
;; xorshift64, in 16 hexadecimal digits.
(component
  (core module $guest
    ;; The first page holds the result and its description. Records start on the second page.
    (memory (export "memory") 2)
    (global $first i32 (i32.const 65536))
    (global $free (mut i32) (i32.const 65536))

    ;; The host calls this for the memory of a record. A record is two numbers: one of more than 4096 bytes
    ;; traps.
    (func (export "cabi_realloc")
      (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
      (local $start i32)
      (local.set $start
        (i32.and
          (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
          (i32.sub (i32.const 0) (local.get $align))))
      (if (i32.gt_u (local.get $len) (i32.const 4096)) (then (unreachable)))
      (global.set $free (i32.add (local.get $start) (local.get $len)))
      (local.get $start))

    ;; Reads the decimal number at an address. Gives the number, and the address of the first byte that is no
    ;; digit.
    (func $number (param $at i32) (param $end i32) (result i64 i32)
      (local $number i64) (local $digit i32)
      (block $done
        (loop $next
          (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
          (local.set $digit (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))
          (br_if $done (i32.ge_u (local.get $digit) (i32.const 10)))
          (local.set $number
            (i64.add (i64.mul (local.get $number) (i64.const 10)) (i64.extend_i32_u (local.get $digit))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $next)))
      (local.get $number)
      (local.get $at))

    (func $xorshift (param $rounds i64) (param $x i64) (result i64)
      (block $done
        (loop $next
          (br_if $done (i64.eqz (local.get $rounds)))
          (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
          (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
          (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
          (local.set $rounds (i64.sub (local.get $rounds) (i64.const 1)))
          (br $next)))
      (local.get $x))

    ;; The result is ok(16 bytes from address 64 on). Its description is at address 16: the case, the address,
    ;; the length.
    (func (export "run") (param $record i32) (param $len i32) (result i32)
      (local $end i32) (local $at i32) (local $rounds i64) (local $x i64) (local $digit i32) (local $place i32)
      (local.set $end (i32.add (local.get $record) (local.get $len)))
      (call $number (local.get $record) (local.get $end))
      (local.set $at)
      (local.set $rounds)
      (call $number (i32.add (local.get $at) (i32.const 1)) (local.get $end))
      (local.set $at)
      (local.set $x)
      (local.set $x (call $xorshift (local.get $rounds) (local.get $x)))
      ;; Writes the digits from the last to the first.
      (local.set $place (i32.const 80))
      (loop $next
        (local.set $place (i32.sub (local.get $place) (i32.const 1)))
        (local.set $digit (i32.wrap_i64 (i64.and (local.get $x) (i64.const 15))))
        (i32.store8 (local.get $place)
          (i32.add (local.get $digit)
            (select (i32.const 48) (i32.const 87) (i32.lt_u (local.get $digit) (i32.const 10)))))
        (local.set $x (i64.shr_u (local.get $x) (i64.const 4)))
        (br_if $next (i32.gt_u (local.get $place) (i32.const 64))))
      (i32.store8 (i32.const 16) (i32.const 0))
      (i32.store (i32.const 20) (i32.const 64))
      (i32.store (i32.const 24) (i32.const 16))
      (i32.const 16))

    ;; The host calls this when it has read the result. All records are freed.
    (func (export "cabi_post_run") (param $result i32)
      (global.set $free (global.get $first))))

  (core instance $instance (instantiate $guest))
  (func $run (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift
      (core func $instance "run")
      (memory (core memory $instance "memory"))
      (realloc (core func $instance "cabi_realloc"))
      (post-return (core func $instance "cabi_post_run"))))
  (export "run" (func $run)))
