;; Does what the first byte of its record says, for benchmarks that need failures and large results.
;;
;;   E   the error err(record)              T   a trap
;;   L   an endless loop                    M   asks for memory until it is refused, then a trap
;;   S   recursion without end              P   a result with a pointer out of bounds
;;   B   1 MiB: the record, then its last byte again and again
;;
;; Any other record is the result itself. A record has at most 64 KiB.
(component
  (core module $guest
    ;; The first page holds the return area. Large results start on the second page, records behind them.
    (memory (export "memory") 18)
    (global $result i32 (i32.const 65536))
    (global $first i32 (i32.const 1114112))
    (global $free (mut i32) (i32.const 1114112))

    ;; The host calls this for the memory of a record. Allocates upwards, and grows the memory when it is
    ;; full.
    (func (export "cabi_realloc")
      (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
      (local $start i32) (local $end i32)
      (local.set $start (global.get $free))
      (local.set $end (i32.add (local.get $start) (local.get $len)))
      (block $fits
        (br_if $fits (i32.le_u (local.get $end) (i32.shl (memory.size) (i32.const 16))))
        (if (i32.eq
            (memory.grow (i32.add (i32.shr_u (local.get $len) (i32.const 16)) (i32.const 1)))
            (i32.const -1))
          (then (unreachable))))
      (global.set $free (local.get $end))
      (local.get $start))

    (func $deep (param $n i32) (result i32)
      (i32.add (call $deep (i32.add (local.get $n) (i32.const 1))) (i32.const 1)))

    ;; Writes the description of the result to address 16: the case, the address, the length.
    (func $describe (param $case i32) (param $at i32) (param $len i32) (result i32)
      (i32.store8 (i32.const 16) (local.get $case))
      (i32.store (i32.const 20) (local.get $at))
      (i32.store (i32.const 24) (local.get $len))
      (i32.const 16))

    (func $large (param $record i32) (param $len i32) (result i32)
      (memory.fill (global.get $result)
        (i32.load8_u (i32.sub (i32.add (local.get $record) (local.get $len)) (i32.const 1)))
        (i32.const 1048576))
      (memory.copy (global.get $result) (local.get $record) (local.get $len))
      (call $describe (i32.const 0) (global.get $result) (i32.const 1048576)))

    (func (export "run") (param $record i32) (param $len i32) (result i32)
      (local $what i32)
      (if (local.get $len) (then (local.set $what (i32.load8_u (local.get $record)))))
      (if (i32.eq (local.get $what) (i32.const 69))
        (then (return (call $describe (i32.const 1) (local.get $record) (local.get $len)))))
      (if (i32.eq (local.get $what) (i32.const 84)) (then (unreachable)))
      (if (i32.eq (local.get $what) (i32.const 76)) (then (loop $endless (br $endless))))
      (if (i32.eq (local.get $what) (i32.const 77))
        (then
          (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
          (unreachable)))
      (if (i32.eq (local.get $what) (i32.const 83)) (then (drop (call $deep (i32.const 0)))))
      (if (i32.eq (local.get $what) (i32.const 80))
        (then (return (call $describe (i32.const 0) (i32.const -16) (i32.const 4096)))))
      (if (i32.eq (local.get $what) (i32.const 66))
        (then (return (call $large (local.get $record) (local.get $len)))))
      (call $describe (i32.const 0) (local.get $record) (local.get $len)))

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
