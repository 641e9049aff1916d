;; Each record with its ASCII letters in upper case. A guest of the world wpool:task/task that imports
;; nothing, and touches two pages of memory.
(component
  (core module $guest
    ;; The first page holds the return area. Records start on the second page.
    (memory (export "memory") 2)
    (global $first i32 (i32.const 65536))
    (global $free (mut i32) (i32.const 65536))

    ;; The host calls this for the memory of a record. Allocates upwards, and grows the memory when it is
    ;; full.
    (func (export "cabi_realloc")
      (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
      (local $start i32) (local $end i64) (local $pages i32)
      (local.set $start
        (i32.and
          (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
          (i32.sub (i32.const 0) (local.get $align))))
      (local.set $end (i64.add (i64.extend_i32_u (local.get $start)) (i64.extend_i32_u (local.get $len))))
      (local.set $pages
        (i32.wrap_i64 (i64.shr_u (i64.add (local.get $end) (i64.const 65535)) (i64.const 16))))
      (if (i32.gt_u (local.get $pages) (memory.size))
        (then
          (if (i32.eq (memory.grow (i32.sub (local.get $pages) (memory.size))) (i32.const -1))
            (then (unreachable)))))
      (memory.copy (local.get $start) (local.get $old) (local.get $old_len))
      (global.set $free (i32.wrap_i64 (local.get $end)))
      (local.get $start))

    ;; Changes the record in place. The result is ok(record). Its description is at address 16: the case, the
    ;; address, the length.
    (func (export "run") (param $record i32) (param $len i32) (result i32)
      (local $at i32) (local $end i32) (local $byte i32)
      (local.set $at (local.get $record))
      (local.set $end (i32.add (local.get $record) (local.get $len)))
      (block $done
        (loop $next
          (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
          (local.set $byte (i32.load8_u (local.get $at)))
          ;; Bytes from 'a' to 'z' lose the bit 32, which is the difference to 'A' to 'Z'.
          (i32.store8 (local.get $at)
            (i32.sub (local.get $byte)
              (i32.shl (i32.lt_u (i32.sub (local.get $byte) (i32.const 97)) (i32.const 26)) (i32.const 5))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $next)))
      (i32.store8 (i32.const 16) (i32.const 0))
      (i32.store (i32.const 20) (local.get $record))
      (i32.store (i32.const 24) (local.get $len))
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
