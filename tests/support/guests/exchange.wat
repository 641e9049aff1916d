;; Uses every kind of shared object. A record is a program: each byte is an instruction, and what it gives is
;; appended to the result. The first error ends the program: the task's error is the number of the code, a
;; space and the message.
;;
;;   0..9     from here on, the objects whose names end with this digit: q0 l0 r0 s0 e0 k0 b0 c0 v0 d0
;;   , .      from here on, calls wait as long as the task may (as at the beginning); do not wait at all
;;   ;        from here on, calls wait for 20 ms
;;   x        does the rest of the program 1,000 times; the last result counts
;;   z o      traps; loops for ever
;;   p TEXT   queue q: puts the rest of the program
;;   P TEXT   puts each byte of the rest as an item; how many were put, as a digit
;;   g G      gets an item; gets up to 100 items. A redelivered one begins with !
;;   d j h y  task-done(1); join; close; the status: length, unfinished, closed, each one digit
;;   a r L    lock l: acquire (c: clean, d: owner died); release; locked (t or f)
;;   A R      r-lock r: acquire, release
;;   + - =    semaphore s: acquire; release(1); value, one digit
;;   w s u i  event e: wait (t or f); set; clear; is-set (t or f)
;;   k K W n N  condition k: acquire (c or d); release; wait (t or f); notify(1); notify-all
;;   b B C Y  barrier b: wait, the number as a digit; abort; reset; waiting and broken, each one digit
;;   > TEXT   connection c: sends the rest of the program
;;   < ( ? )  receives; receives 4 bytes at most; poll (t or f); close
;;   v V      value v: add(1), the sum as a digit; compare-exchange of integer 1 for 7, what it was as a digit
;;   D TEXT   dict d: puts the rest of the program under the key "key"; what was there
;;   E X F S  get "key"; remove "key"; the keys, each behind a comma; compare-exchange of no entry for "new"
;;   T        len, one digit. What an entry was begins with :
;;   %        waits for the queue q and the connection c: the positions as digits
;;   O        opens the queue q once more, and keeps the handle
;;   H f      uses handle 99 as a queue; uses the lock l as a queue
(component
  (import "wpool:ipc/errors@0.1.0" (instance $errors
    (type $c (enum "not-granted" "timed-out" "closed" "eof" "too-large" "invalid" "broken" "deadlock"))
    (export "code" (type $code (eq $c)))
    (type $e (record (field "code" $code) (field "message" string)))
    (export "error" (type (eq $e)))))
  (alias export $errors "error" (type $error))
  (import "wpool:ipc/queues@0.1.0" (instance $queues
    (type $i (record (field "data" (list u8)) (field "redelivered" bool)))
    (export "item" (type $item (eq $i)))
    (type $s (record (field "len" u64) (field "max-len" (option u64)) (field "unfinished" u64)
      (field "closed" bool)))
    (export "status" (type $status (eq $s)))
    (export "queue" (type $queue (sub resource)))
    (export "[static]queue.open" (func (param "name" string) (result (result (own $queue) (error $error)))))
    (export "[method]queue.put" (func (param "self" (borrow $queue)) (param "data" (list u8))
      (param "timeout" (option u64)) (result (result (error $error)))))
    (export "[method]queue.put-many" (func (param "self" (borrow $queue)) (param "items" (list (list u8)))
      (param "timeout" (option u64)) (result (result u32 (error $error)))))
    (export "[method]queue.get" (func (param "self" (borrow $queue)) (param "timeout" (option u64))
      (result (result $item (error $error)))))
    (export "[method]queue.get-many" (func (param "self" (borrow $queue)) (param "most" u32)
      (param "timeout" (option u64)) (result (result (list $item) (error $error)))))
    (export "[method]queue.status" (func (param "self" (borrow $queue))
      (result (result $status (error $error)))))
    (export "[method]queue.task-done" (func (param "self" (borrow $queue)) (param "count" u32)
      (result (result (error $error)))))
    (export "[method]queue.join" (func (param "self" (borrow $queue)) (param "timeout" (option u64))
      (result (result (error $error)))))
    (export "[method]queue.close" (func (param "self" (borrow $queue)) (result (result (error $error)))))))
  (alias export $queues "queue" (type $queue))
  (import "wpool:ipc/connections@0.1.0" (instance $connections
    (export "connection" (type $connection (sub resource)))
    (export "[static]connection.open" (func (param "name" string)
      (result (result (own $connection) (error $error)))))
    (export "[method]connection.send" (func (param "self" (borrow $connection)) (param "data" (list u8))
      (param "timeout" (option u64)) (result (result (error $error)))))
    (export "[method]connection.recv" (func (param "self" (borrow $connection))
      (param "max-len" (option u64)) (param "timeout" (option u64))
      (result (result (list u8) (error $error)))))
    (export "[method]connection.poll" (func (param "self" (borrow $connection))
      (param "timeout" (option u64)) (result (result bool (error $error)))))
    (export "[method]connection.close" (func (param "self" (borrow $connection))
      (result (result (error $error)))))))
  (alias export $connections "connection" (type $connection))
  (import "wpool:ipc/waiting@0.1.0" (instance $waiting
    (alias outer 1 $queue (type $q))
    (export "queue" (type $queue' (eq $q)))
    (alias outer 1 $connection (type $c))
    (export "connection" (type $connection' (eq $c)))
    (type $w (variant (case "queue" (borrow $queue')) (case "connection" (borrow $connection'))))
    (export "waitable" (type $waitable (eq $w)))
    (export "wait" (func (param "objects" (list $waitable)) (param "timeout" (option u64))
      (result (result (list u32) (error $error)))))))
  (import "wpool:ipc/values@0.1.0" (instance $values
    (type $c (variant (case "integer" s64) (case "bytes" (list u8))))
    (export "content" (type $content (eq $c)))
    (export "value" (type $value (sub resource)))
    (export "[static]value.open" (func (param "name" string) (result (result (own $value) (error $error)))))
    (export "[method]value.get" (func (param "self" (borrow $value))
      (result (result $content (error $error)))))
    (export "[method]value.set" (func (param "self" (borrow $value)) (param "content" $content)
      (result (result (error $error)))))
    (export "[method]value.add" (func (param "self" (borrow $value)) (param "amount" s64)
      (result (result s64 (error $error)))))
    (export "[method]value.compare-exchange" (func (param "self" (borrow $value))
      (param "expected" $content) (param "new" $content) (result (result $content (error $error)))))))
  (import "wpool:ipc/dicts@0.1.0" (instance $dicts
    (export "dict" (type $dict (sub resource)))
    (export "[static]dict.open" (func (param "name" string) (result (result (own $dict) (error $error)))))
    (export "[method]dict.get" (func (param "self" (borrow $dict)) (param "key" string)
      (result (result (option (list u8)) (error $error)))))
    (export "[method]dict.put" (func (param "self" (borrow $dict)) (param "key" string)
      (param "data" (list u8)) (result (result (option (list u8)) (error $error)))))
    (export "[method]dict.remove" (func (param "self" (borrow $dict)) (param "key" string)
      (result (result (option (list u8)) (error $error)))))
    (export "[method]dict.keys" (func (param "self" (borrow $dict))
      (result (result (list string) (error $error)))))
    (export "[method]dict.len" (func (param "self" (borrow $dict)) (result (result u64 (error $error)))))
    (export "[method]dict.compare-exchange" (func (param "self" (borrow $dict)) (param "key" string)
      (param "expected" (option (list u8))) (param "new" (option (list u8)))
      (result (result (option (list u8)) (error $error)))))))
  (import "wpool:sync/locks@0.1.0" (instance $locks
    (type $a (enum "clean" "owner-died"))
    (export "acquired" (type $acquired (eq $a)))
    (export "lock" (type $lock (sub resource)))
    (export "[static]lock.open" (func (param "name" string) (result (result (own $lock) (error $error)))))
    (export "[method]lock.acquire" (func (param "self" (borrow $lock)) (param "timeout" (option u64))
      (result (result $acquired (error $error)))))
    (export "[method]lock.release" (func (param "self" (borrow $lock)) (result (result (error $error)))))
    (export "[method]lock.locked" (func (param "self" (borrow $lock)) (result (result bool (error $error)))))
    (export "r-lock" (type $r-lock (sub resource)))
    (export "[static]r-lock.open" (func (param "name" string) (result (result (own $r-lock) (error $error)))))
    (export "[method]r-lock.acquire" (func (param "self" (borrow $r-lock)) (param "timeout" (option u64))
      (result (result $acquired (error $error)))))
    (export "[method]r-lock.release" (func (param "self" (borrow $r-lock)) (result (result (error $error)))))
    (export "[method]r-lock.locked" (func (param "self" (borrow $r-lock))
      (result (result bool (error $error)))))))
  (alias export $locks "acquired" (type $acquired))
  (import "wpool:sync/semaphores@0.1.0" (instance $semaphores
    (export "semaphore" (type $semaphore (sub resource)))
    (export "[static]semaphore.open" (func (param "name" string)
      (result (result (own $semaphore) (error $error)))))
    (export "[method]semaphore.acquire" (func (param "self" (borrow $semaphore))
      (param "timeout" (option u64)) (result (result (error $error)))))
    (export "[method]semaphore.release" (func (param "self" (borrow $semaphore)) (param "count" u32)
      (result (result (error $error)))))
    (export "[method]semaphore.value" (func (param "self" (borrow $semaphore))
      (result (result u64 (error $error)))))))
  (import "wpool:sync/events@0.1.0" (instance $events
    (export "event" (type $event (sub resource)))
    (export "[static]event.open" (func (param "name" string) (result (result (own $event) (error $error)))))
    (export "[method]event.set" (func (param "self" (borrow $event)) (result (result (error $error)))))
    (export "[method]event.clear" (func (param "self" (borrow $event)) (result (result (error $error)))))
    (export "[method]event.is-set" (func (param "self" (borrow $event))
      (result (result bool (error $error)))))
    (export "[method]event.wait" (func (param "self" (borrow $event)) (param "timeout" (option u64))
      (result (result bool (error $error)))))))
  (import "wpool:sync/conditions@0.1.0" (instance $conditions
    (export "condition" (type $condition (sub resource)))
    (export "[static]condition.open" (func (param "name" string)
      (result (result (own $condition) (error $error)))))
    (export "[method]condition.acquire" (func (param "self" (borrow $condition))
      (param "timeout" (option u64)) (result (result $acquired (error $error)))))
    (export "[method]condition.release" (func (param "self" (borrow $condition))
      (result (result (error $error)))))
    (export "[method]condition.wait" (func (param "self" (borrow $condition)) (param "timeout" (option u64))
      (result (result bool (error $error)))))
    (export "[method]condition.notify" (func (param "self" (borrow $condition)) (param "count" u32)
      (result (result (error $error)))))
    (export "[method]condition.notify-all" (func (param "self" (borrow $condition))
      (result (result (error $error)))))))
  (import "wpool:sync/barriers@0.1.0" (instance $barriers
    (type $s (record (field "parties" u32) (field "waiting" u32) (field "broken" bool)))
    (export "status" (type $status (eq $s)))
    (export "barrier" (type $barrier (sub resource)))
    (export "[static]barrier.open" (func (param "name" string)
      (result (result (own $barrier) (error $error)))))
    (export "[method]barrier.wait" (func (param "self" (borrow $barrier)) (param "timeout" (option u64))
      (result (result u32 (error $error)))))
    (export "[method]barrier.abort" (func (param "self" (borrow $barrier)) (result (result (error $error)))))
    (export "[method]barrier.reset" (func (param "self" (borrow $barrier)) (result (result (error $error)))))
    (export "[method]barrier.status" (func (param "self" (borrow $barrier))
      (result (result $status (error $error)))))))

  (core module $libc
    (memory (export "memory") 2)
    ;; Small data and the return area are on the first page; what is allocated is behind it.
    (global $free (export "free") (mut i32) (i32.const 65536))
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
      (local.get $start)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))

  (core func $queue.open
    (canon lower (func $queues "[static]queue.open")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $queue.put
    (canon lower (func $queues "[method]queue.put")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $queue.put-many
    (canon lower (func $queues "[method]queue.put-many")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $queue.get
    (canon lower (func $queues "[method]queue.get")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $queue.get-many
    (canon lower (func $queues "[method]queue.get-many")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $queue.status
    (canon lower (func $queues "[method]queue.status")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $queue.task-done
    (canon lower (func $queues "[method]queue.task-done")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $queue.join
    (canon lower (func $queues "[method]queue.join")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $queue.close
    (canon lower (func $queues "[method]queue.close")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $connection.open
    (canon lower (func $connections "[static]connection.open")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $connection.send
    (canon lower (func $connections "[method]connection.send")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $connection.recv
    (canon lower (func $connections "[method]connection.recv")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $connection.poll
    (canon lower (func $connections "[method]connection.poll")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $connection.close
    (canon lower (func $connections "[method]connection.close")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $value.open
    (canon lower (func $values "[static]value.open")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $value.add
    (canon lower (func $values "[method]value.add")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $value.compare-exchange
    (canon lower (func $values "[method]value.compare-exchange")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $dict.open
    (canon lower (func $dicts "[static]dict.open")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $dict.get
    (canon lower (func $dicts "[method]dict.get")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $dict.put
    (canon lower (func $dicts "[method]dict.put")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $dict.remove
    (canon lower (func $dicts "[method]dict.remove")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $dict.keys
    (canon lower (func $dicts "[method]dict.keys")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $dict.len
    (canon lower (func $dicts "[method]dict.len")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $dict.compare-exchange
    (canon lower (func $dicts "[method]dict.compare-exchange")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $lock.open
    (canon lower (func $locks "[static]lock.open")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $lock.acquire
    (canon lower (func $locks "[method]lock.acquire")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $lock.release
    (canon lower (func $locks "[method]lock.release")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $lock.locked
    (canon lower (func $locks "[method]lock.locked")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $r-lock.open
    (canon lower (func $locks "[static]r-lock.open")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $r-lock.acquire
    (canon lower (func $locks "[method]r-lock.acquire")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $r-lock.release
    (canon lower (func $locks "[method]r-lock.release")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $semaphore.open
    (canon lower (func $semaphores "[static]semaphore.open")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $semaphore.acquire
    (canon lower (func $semaphores "[method]semaphore.acquire")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $semaphore.release
    (canon lower (func $semaphores "[method]semaphore.release")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $semaphore.value
    (canon lower (func $semaphores "[method]semaphore.value")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $event.open
    (canon lower (func $events "[static]event.open")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $event.set
    (canon lower (func $events "[method]event.set")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $event.clear
    (canon lower (func $events "[method]event.clear")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $event.is-set
    (canon lower (func $events "[method]event.is-set")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $event.wait
    (canon lower (func $events "[method]event.wait")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $condition.open
    (canon lower (func $conditions "[static]condition.open")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $condition.acquire
    (canon lower (func $conditions "[method]condition.acquire")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $condition.release
    (canon lower (func $conditions "[method]condition.release")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $condition.wait
    (canon lower (func $conditions "[method]condition.wait")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $condition.notify
    (canon lower (func $conditions "[method]condition.notify")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $condition.notify-all
    (canon lower (func $conditions "[method]condition.notify-all")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $barrier.open
    (canon lower (func $barriers "[static]barrier.open")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $barrier.wait
    (canon lower (func $barriers "[method]barrier.wait")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $barrier.abort
    (canon lower (func $barriers "[method]barrier.abort")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $barrier.reset
    (canon lower (func $barriers "[method]barrier.reset")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $barrier.status
    (canon lower (func $barriers "[method]barrier.status")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))
  (core func $wait
    (canon lower (func $waiting "wait")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))))

  (core module $guest
    (import "libc" "memory" (memory 1))
    (import "libc" "free" (global $free (mut i32)))
    (import "libc" "cabi_realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
    (import "host" "queue.open" (func $queue.open (param i32 i32 i32)))
    (import "host" "queue.put" (func $queue.put (param i32 i32 i32 i32 i64 i32)))
    (import "host" "queue.put-many" (func $queue.put-many (param i32 i32 i32 i32 i64 i32)))
    (import "host" "queue.get" (func $queue.get (param i32 i32 i64 i32)))
    (import "host" "queue.get-many" (func $queue.get-many (param i32 i32 i32 i64 i32)))
    (import "host" "queue.status" (func $queue.status (param i32 i32)))
    (import "host" "queue.task-done" (func $queue.task-done (param i32 i32 i32)))
    (import "host" "queue.join" (func $queue.join (param i32 i32 i64 i32)))
    (import "host" "queue.close" (func $queue.close (param i32 i32)))
    (import "host" "connection.open" (func $connection.open (param i32 i32 i32)))
    (import "host" "connection.send" (func $connection.send (param i32 i32 i32 i32 i64 i32)))
    (import "host" "connection.recv" (func $connection.recv (param i32 i32 i64 i32 i64 i32)))
    (import "host" "connection.poll" (func $connection.poll (param i32 i32 i64 i32)))
    (import "host" "connection.close" (func $connection.close (param i32 i32)))
    (import "host" "value.open" (func $value.open (param i32 i32 i32)))
    (import "host" "value.add" (func $value.add (param i32 i64 i32)))
    (import "host" "value.compare-exchange" (func $value.compare-exchange
      (param i32 i32 i64 i32 i32 i64 i32 i32)))
    (import "host" "dict.open" (func $dict.open (param i32 i32 i32)))
    (import "host" "dict.get" (func $dict.get (param i32 i32 i32 i32)))
    (import "host" "dict.put" (func $dict.put (param i32 i32 i32 i32 i32 i32)))
    (import "host" "dict.remove" (func $dict.remove (param i32 i32 i32 i32)))
    (import "host" "dict.keys" (func $dict.keys (param i32 i32)))
    (import "host" "dict.len" (func $dict.len (param i32 i32)))
    (import "host" "dict.compare-exchange" (func $dict.compare-exchange
      (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    (import "host" "lock.open" (func $lock.open (param i32 i32 i32)))
    (import "host" "lock.acquire" (func $lock.acquire (param i32 i32 i64 i32)))
    (import "host" "lock.release" (func $lock.release (param i32 i32)))
    (import "host" "lock.locked" (func $lock.locked (param i32 i32)))
    (import "host" "r-lock.open" (func $r-lock.open (param i32 i32 i32)))
    (import "host" "r-lock.acquire" (func $r-lock.acquire (param i32 i32 i64 i32)))
    (import "host" "r-lock.release" (func $r-lock.release (param i32 i32)))
    (import "host" "semaphore.open" (func $semaphore.open (param i32 i32 i32)))
    (import "host" "semaphore.acquire" (func $semaphore.acquire (param i32 i32 i64 i32)))
    (import "host" "semaphore.release" (func $semaphore.release (param i32 i32 i32)))
    (import "host" "semaphore.value" (func $semaphore.value (param i32 i32)))
    (import "host" "event.open" (func $event.open (param i32 i32 i32)))
    (import "host" "event.set" (func $event.set (param i32 i32)))
    (import "host" "event.clear" (func $event.clear (param i32 i32)))
    (import "host" "event.is-set" (func $event.is-set (param i32 i32)))
    (import "host" "event.wait" (func $event.wait (param i32 i32 i64 i32)))
    (import "host" "condition.open" (func $condition.open (param i32 i32 i32)))
    (import "host" "condition.acquire" (func $condition.acquire (param i32 i32 i64 i32)))
    (import "host" "condition.release" (func $condition.release (param i32 i32)))
    (import "host" "condition.wait" (func $condition.wait (param i32 i32 i64 i32)))
    (import "host" "condition.notify" (func $condition.notify (param i32 i32 i32)))
    (import "host" "condition.notify-all" (func $condition.notify-all (param i32 i32)))
    (import "host" "barrier.open" (func $barrier.open (param i32 i32 i32)))
    (import "host" "barrier.wait" (func $barrier.wait (param i32 i32 i64 i32)))
    (import "host" "barrier.abort" (func $barrier.abort (param i32 i32)))
    (import "host" "barrier.reset" (func $barrier.reset (param i32 i32)))
    (import "host" "barrier.status" (func $barrier.status (param i32 i32)))
    (import "host" "wait" (func $wait (param i32 i32 i32 i64 i32)))

    ;; The program.
    (global $at (mut i32) (i32.const 0))
    (global $end (mut i32) (i32.const 0))
    ;; Where the repeated rest begins, how often it is still to run, and what was allocated before it.
    (global $again (mut i32) (i32.const 0))
    (global $times (mut i32) (i32.const 0))
    (global $kept (mut i32) (i32.const 0))
    ;; The result.
    (global $out (mut i32) (i32.const 0))
    (global $out-len (mut i32) (i32.const 0))
    (global $digit (mut i32) (i32.const 48))
    ;; The time-out: whether there is one, and which.
    (global $timed (mut i32) (i32.const 0))
    (global $timeout (mut i64) (i64.const 0))
    ;; Calls leave their result at 16. The result of the task is at 80, the name of an object at 96, its
    ;; handles from 1024 on: ten of each kind, by the letter of the kind.
    (data (i32.const 112) "keynew")
    (data (i32.const 128) "\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00")

    (func $append (param $from i32) (param $len i32)
      (local $to i32)
      (local.set $to (call $realloc
        (global.get $out) (global.get $out-len) (i32.const 1)
        (i32.add (global.get $out-len) (local.get $len))))
      (memory.copy (i32.add (local.get $to) (global.get $out-len)) (local.get $from) (local.get $len))
      (global.set $out (local.get $to))
      (global.set $out-len (i32.add (global.get $out-len) (local.get $len))))
    (func $byte (param $byte i32)
      (i32.store8 (i32.const 104) (local.get $byte))
      (call $append (i32.const 104) (i32.const 1)))
    (func $number (param $number i32) (call $byte (i32.add (i32.const 48) (local.get $number))))
    (func $flag (param $flag i32)
      (call $byte (select (i32.const 116) (i32.const 102) (local.get $flag))))

    ;; Ends the program with an error that lies at this place: its code, and its message.
    (func $fail (param $error i32)
      (global.set $out-len (i32.const 0))
      (call $number (i32.load8_u (local.get $error)))
      (call $byte (i32.const 32))
      (call $append (i32.load offset=4 (local.get $error)) (i32.load offset=8 (local.get $error)))
      (global.set $times (i32.const 0))
      (global.set $at (global.get $end))
      (i32.store8 (i32.const 80) (i32.const 1)))
    ;; Whether the last call succeeded. If not, the program ends. The error begins at 20, or at 24 if the
    ;; value has eight bytes.
    (func $ok (result i32)
      (if (i32.load8_u (i32.const 16)) (then (call $fail (i32.const 20))))
      (i32.eqz (i32.load8_u (i32.const 16))))
    (func $ok8 (result i32)
      (if (i32.load8_u (i32.const 16)) (then (call $fail (i32.const 24))))
      (i32.eqz (i32.load8_u (i32.const 16))))

    ;; Where the handle of the object of this kind is kept.
    (func $place (param $kind i32) (result i32)
      (i32.add (i32.const 1024) (i32.shl
        (i32.add (i32.mul (i32.sub (local.get $kind) (i32.const 97)) (i32.const 10))
          (i32.sub (global.get $digit) (i32.const 48)))
        (i32.const 2))))
    ;; Opens an object. 0: it could not be opened.
    (func $open (param $kind i32) (result i32)
      (i32.store8 (i32.const 96) (local.get $kind))
      (i32.store8 (i32.const 97) (global.get $digit))
      (if (i32.eq (local.get $kind) (i32.const 113))
        (then (call $queue.open (i32.const 96) (i32.const 2) (i32.const 16))))
      (if (i32.eq (local.get $kind) (i32.const 99))
        (then (call $connection.open (i32.const 96) (i32.const 2) (i32.const 16))))
      (if (i32.eq (local.get $kind) (i32.const 118))
        (then (call $value.open (i32.const 96) (i32.const 2) (i32.const 16))))
      (if (i32.eq (local.get $kind) (i32.const 100))
        (then (call $dict.open (i32.const 96) (i32.const 2) (i32.const 16))))
      (if (i32.eq (local.get $kind) (i32.const 108))
        (then (call $lock.open (i32.const 96) (i32.const 2) (i32.const 16))))
      (if (i32.eq (local.get $kind) (i32.const 114))
        (then (call $r-lock.open (i32.const 96) (i32.const 2) (i32.const 16))))
      (if (i32.eq (local.get $kind) (i32.const 115))
        (then (call $semaphore.open (i32.const 96) (i32.const 2) (i32.const 16))))
      (if (i32.eq (local.get $kind) (i32.const 101))
        (then (call $event.open (i32.const 96) (i32.const 2) (i32.const 16))))
      (if (i32.eq (local.get $kind) (i32.const 107))
        (then (call $condition.open (i32.const 96) (i32.const 2) (i32.const 16))))
      (if (i32.eq (local.get $kind) (i32.const 98))
        (then (call $barrier.open (i32.const 96) (i32.const 2) (i32.const 16))))
      (if (result i32) (call $ok) (then (i32.load (i32.const 20))) (else (i32.const 0))))
    ;; The handle of an object, which is opened when it is needed for the first time.
    (func $handle (param $kind i32) (result i32)
      (local $place i32)
      (local.set $place (call $place (local.get $kind)))
      (if (i32.eqz (i32.load (local.get $place)))
        (then (i32.store (local.get $place) (call $open (local.get $kind)))))
      (i32.load (local.get $place)))

    (func $item (param $item i32)
      (if (i32.load8_u offset=8 (local.get $item)) (then (call $byte (i32.const 33))))
      (call $append (i32.load (local.get $item)) (i32.load offset=4 (local.get $item))))
    ;; An entry of a dict, if there is one.
    (func $entry
      (if (call $ok)
        (then (if (i32.load8_u (i32.const 20)) (then
          (call $byte (i32.const 58))
          (call $append (i32.load (i32.const 24)) (i32.load (i32.const 28))))))))

    ;; Appends the items of a list, or the keys, each behind a comma. `len`: the bytes of an element.
    (func $items (param $len i32)
      (local $item i32) (local $left i32)
      (local.set $item (i32.load (i32.const 20)))
      (local.set $left (i32.load (i32.const 24)))
      (loop $more
        (if (local.get $left) (then
          (call $byte (i32.const 44))
          (if (i32.eq (local.get $len) (i32.const 12))
            (then (call $item (local.get $item)))
            (else (call $append (i32.load (local.get $item)) (i32.load offset=4 (local.get $item)))))
          (local.set $item (i32.add (local.get $item) (local.get $len)))
          (local.set $left (i32.sub (local.get $left) (i32.const 1)))
          (br $more)))))
    ;; Puts each byte of the rest of the program as an item of its own.
    (func $put-each (param $h i32)
      (local $count i32) (local $list i32) (local $i i32)
      (local.set $count (i32.sub (global.get $end) (global.get $at)))
      (local.set $list (call $realloc
        (i32.const 0) (i32.const 0) (i32.const 4) (i32.shl (local.get $count) (i32.const 3))))
      (loop $more
        (if (i32.lt_u (local.get $i) (local.get $count)) (then
          (i32.store (i32.add (local.get $list) (i32.shl (local.get $i) (i32.const 3)))
            (i32.add (global.get $at) (local.get $i)))
          (i32.store offset=4 (i32.add (local.get $list) (i32.shl (local.get $i) (i32.const 3)))
            (i32.const 1))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br $more))))
      (call $queue.put-many (local.get $h) (local.get $list) (local.get $count)
        (global.get $timed) (global.get $timeout) (i32.const 16))
      (if (call $ok) (then
        (call $number (i32.load (i32.const 20)))
        (global.set $at (global.get $end)))))
    ;; Waits for a queue and a connection, and appends the positions of those that are ready.
    (func $wait-for-two (param $queue i32) (param $connection i32)
      (local $at i32) (local $left i32)
      (i32.store (i32.const 132) (local.get $queue))
      (i32.store (i32.const 140) (local.get $connection))
      (call $wait (i32.const 128) (i32.const 2) (global.get $timed) (global.get $timeout) (i32.const 16))
      (if (call $ok) (then
        (local.set $at (i32.load (i32.const 20)))
        (local.set $left (i32.load (i32.const 24)))
        (loop $more
          (if (local.get $left) (then
            (call $number (i32.load (local.get $at)))
            (local.set $at (i32.add (local.get $at) (i32.const 4)))
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            (br $more)))))))

    ;; Executes an instruction that uses an object of this kind, whose handle is `h`.
    (func $on (param $op i32) (param $h i32)
      (if (i32.eq (local.get $op) (i32.const 112)) (then ;; p
        (call $queue.put (local.get $h) (global.get $at) (i32.sub (global.get $end) (global.get $at))
          (global.get $timed) (global.get $timeout) (i32.const 16))
        (if (call $ok) (then (global.set $at (global.get $end))))))
      (if (i32.eq (local.get $op) (i32.const 80)) (then ;; P
        (call $put-each (local.get $h))))
      (if (i32.eq (local.get $op) (i32.const 103)) (then ;; g
        (call $queue.get (local.get $h) (global.get $timed) (global.get $timeout) (i32.const 16))
        (if (call $ok) (then (call $item (i32.const 20))))))
      (if (i32.eq (local.get $op) (i32.const 71)) (then ;; G
        (call $queue.get-many (local.get $h) (i32.const 100) (global.get $timed) (global.get $timeout)
          (i32.const 16))
        (if (call $ok) (then (call $items (i32.const 12))))))
      (if (i32.eq (local.get $op) (i32.const 100)) (then ;; d
        (call $queue.task-done (local.get $h) (i32.const 1) (i32.const 16))
        (drop (call $ok))))
      (if (i32.eq (local.get $op) (i32.const 106)) (then ;; j
        (call $queue.join (local.get $h) (global.get $timed) (global.get $timeout) (i32.const 16))
        (drop (call $ok))))
      (if (i32.eq (local.get $op) (i32.const 104)) (then ;; h
        (call $queue.close (local.get $h) (i32.const 16))
        (drop (call $ok))))
      (if (i32.eq (local.get $op) (i32.const 121)) (then ;; y
        (call $queue.status (local.get $h) (i32.const 16))
        (if (call $ok8) (then
          (call $number (i32.load (i32.const 24)))
          (call $number (i32.load (i32.const 48)))
          (call $number (i32.load8_u (i32.const 56)))))))
      (if (i32.eq (local.get $op) (i32.const 97)) (then ;; a
        (call $lock.acquire (local.get $h) (global.get $timed) (global.get $timeout) (i32.const 16))
        (if (call $ok) (then (call $byte (i32.add (i32.const 99) (i32.load8_u (i32.const 20))))))))
      (if (i32.eq (local.get $op) (i32.const 114)) (then ;; r
        (call $lock.release (local.get $h) (i32.const 16))
        (drop (call $ok))))
      (if (i32.eq (local.get $op) (i32.const 76)) (then ;; L
        (call $lock.locked (local.get $h) (i32.const 16))
        (if (call $ok) (then (call $flag (i32.load8_u (i32.const 20)))))))
      (if (i32.eq (local.get $op) (i32.const 65)) (then ;; A
        (call $r-lock.acquire (local.get $h) (global.get $timed) (global.get $timeout) (i32.const 16))
        (if (call $ok) (then (call $byte (i32.add (i32.const 99) (i32.load8_u (i32.const 20))))))))
      (if (i32.eq (local.get $op) (i32.const 82)) (then ;; R
        (call $r-lock.release (local.get $h) (i32.const 16))
        (drop (call $ok))))
      (if (i32.eq (local.get $op) (i32.const 43)) (then ;; +
        (call $semaphore.acquire (local.get $h) (global.get $timed) (global.get $timeout) (i32.const 16))
        (drop (call $ok))))
      (if (i32.eq (local.get $op) (i32.const 45)) (then ;; -
        (call $semaphore.release (local.get $h) (i32.const 1) (i32.const 16))
        (drop (call $ok))))
      (if (i32.eq (local.get $op) (i32.const 61)) (then ;; =
        (call $semaphore.value (local.get $h) (i32.const 16))
        (if (call $ok8) (then (call $number (i32.load (i32.const 24)))))))
      (if (i32.eq (local.get $op) (i32.const 119)) (then ;; w
        (call $event.wait (local.get $h) (global.get $timed) (global.get $timeout) (i32.const 16))
        (if (call $ok) (then (call $flag (i32.load8_u (i32.const 20)))))))
      (if (i32.eq (local.get $op) (i32.const 115)) (then ;; s
        (call $event.set (local.get $h) (i32.const 16))
        (drop (call $ok))))
      (if (i32.eq (local.get $op) (i32.const 117)) (then ;; u
        (call $event.clear (local.get $h) (i32.const 16))
        (drop (call $ok))))
      (if (i32.eq (local.get $op) (i32.const 105)) (then ;; i
        (call $event.is-set (local.get $h) (i32.const 16))
        (if (call $ok) (then (call $flag (i32.load8_u (i32.const 20)))))))
      (if (i32.eq (local.get $op) (i32.const 107)) (then ;; k
        (call $condition.acquire (local.get $h) (global.get $timed) (global.get $timeout) (i32.const 16))
        (if (call $ok) (then (call $byte (i32.add (i32.const 99) (i32.load8_u (i32.const 20))))))))
      (if (i32.eq (local.get $op) (i32.const 75)) (then ;; K
        (call $condition.release (local.get $h) (i32.const 16))
        (drop (call $ok))))
      (if (i32.eq (local.get $op) (i32.const 87)) (then ;; W
        (call $condition.wait (local.get $h) (global.get $timed) (global.get $timeout) (i32.const 16))
        (if (call $ok) (then (call $flag (i32.load8_u (i32.const 20)))))))
      (if (i32.eq (local.get $op) (i32.const 110)) (then ;; n
        (call $condition.notify (local.get $h) (i32.const 1) (i32.const 16))
        (drop (call $ok))))
      (if (i32.eq (local.get $op) (i32.const 78)) (then ;; N
        (call $condition.notify-all (local.get $h) (i32.const 16))
        (drop (call $ok))))
      (if (i32.eq (local.get $op) (i32.const 98)) (then ;; b
        (call $barrier.wait (local.get $h) (global.get $timed) (global.get $timeout) (i32.const 16))
        (if (call $ok) (then (call $number (i32.load (i32.const 20)))))))
      (if (i32.eq (local.get $op) (i32.const 66)) (then ;; B
        (call $barrier.abort (local.get $h) (i32.const 16))
        (drop (call $ok))))
      (if (i32.eq (local.get $op) (i32.const 67)) (then ;; C
        (call $barrier.reset (local.get $h) (i32.const 16))
        (drop (call $ok))))
      (if (i32.eq (local.get $op) (i32.const 89)) (then ;; Y
        (call $barrier.status (local.get $h) (i32.const 16))
        (if (call $ok) (then
          (call $number (i32.load (i32.const 24)))
          (call $number (i32.load8_u (i32.const 28)))))))
      (if (i32.eq (local.get $op) (i32.const 62)) (then ;; >
        (call $connection.send (local.get $h) (global.get $at) (i32.sub (global.get $end)
          (global.get $at)) (global.get $timed) (global.get $timeout) (i32.const 16))
        (if (call $ok) (then (global.set $at (global.get $end))))))
      (if (i32.eq (local.get $op) (i32.const 60)) (then ;; <
        (call $connection.recv (local.get $h) (i32.const 0) (i64.const 0) (global.get $timed)
          (global.get $timeout) (i32.const 16))
        (if (call $ok) (then (call $append (i32.load (i32.const 20)) (i32.load (i32.const 24)))))))
      (if (i32.eq (local.get $op) (i32.const 40)) (then ;; paren
        (call $connection.recv (local.get $h) (i32.const 1) (i64.const 4) (global.get $timed)
          (global.get $timeout) (i32.const 16))
        (if (call $ok) (then (call $append (i32.load (i32.const 20)) (i32.load (i32.const 24)))))))
      (if (i32.eq (local.get $op) (i32.const 63)) (then ;; ?
        (call $connection.poll (local.get $h) (global.get $timed) (global.get $timeout) (i32.const 16))
        (if (call $ok) (then (call $flag (i32.load8_u (i32.const 20)))))))
      (if (i32.eq (local.get $op) (i32.const 41)) (then ;; paren
        (call $connection.close (local.get $h) (i32.const 16))
        (drop (call $ok))))
      (if (i32.eq (local.get $op) (i32.const 118)) (then ;; v
        (call $value.add (local.get $h) (i64.const 1) (i32.const 16))
        (if (call $ok8) (then (call $number (i32.load (i32.const 24)))))))
      (if (i32.eq (local.get $op) (i32.const 86)) (then ;; V
        (call $value.compare-exchange (local.get $h)
          (i32.const 0) (i64.const 1) (i32.const 0) (i32.const 0) (i64.const 7) (i32.const 0) (i32.const 16))
        (if (call $ok8) (then (call $number (i32.load (i32.const 32)))))))
      (if (i32.eq (local.get $op) (i32.const 68)) (then ;; D
        (call $dict.put (local.get $h) (i32.const 112) (i32.const 3) (global.get $at) (i32.sub
          (global.get $end) (global.get $at)) (i32.const 16))
        (call $entry)
        (global.set $at (global.get $end))))
      (if (i32.eq (local.get $op) (i32.const 69)) (then ;; E
        (call $dict.get (local.get $h) (i32.const 112) (i32.const 3) (i32.const 16))
        (call $entry)))
      (if (i32.eq (local.get $op) (i32.const 88)) (then ;; X
        (call $dict.remove (local.get $h) (i32.const 112) (i32.const 3) (i32.const 16))
        (call $entry)))
      (if (i32.eq (local.get $op) (i32.const 70)) (then ;; F
        (call $dict.keys (local.get $h) (i32.const 16))
        (if (call $ok) (then (call $items (i32.const 8))))))
      (if (i32.eq (local.get $op) (i32.const 83)) (then ;; S
        (call $dict.compare-exchange (local.get $h) (i32.const 112) (i32.const 3)
          (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 115) (i32.const 3)
            (i32.const 16))
        (call $entry)))
      (if (i32.eq (local.get $op) (i32.const 84)) (then ;; T
        (call $dict.len (local.get $h) (i32.const 16))
        (if (call $ok8) (then (call $number (i32.load (i32.const 24)))))))
      (if (i32.eq (local.get $op) (i32.const 37)) (then ;; %
        (call $wait-for-two (local.get $h) (call $handle (i32.const 99)))))
      (if (i32.eq (local.get $op) (i32.const 79)) (then ;; O
        (drop (call $open (i32.const 113)))))
    )
    ;; The kind of the objects that an instruction uses. 0: none.
    (func $kind-of (param $op i32) (result i32)
      (if (i32.or (i32.eq (local.get $op) (i32.const 79))
          (i32.or (i32.eq (local.get $op) (i32.const 37))
          (i32.or (i32.eq (local.get $op) (i32.const 121))
          (i32.or (i32.eq (local.get $op) (i32.const 104))
          (i32.or (i32.eq (local.get $op) (i32.const 106))
          (i32.or (i32.eq (local.get $op) (i32.const 100))
          (i32.or (i32.eq (local.get $op) (i32.const 71))
          (i32.or (i32.eq (local.get $op) (i32.const 103))
          (i32.or (i32.eq (local.get $op) (i32.const 80))
          (i32.or (i32.eq (local.get $op) (i32.const 112)) (i32.const 0)))))))))))
        (then (return (i32.const 113))))
      (if (i32.or (i32.eq (local.get $op) (i32.const 76))
          (i32.or (i32.eq (local.get $op) (i32.const 114))
          (i32.or (i32.eq (local.get $op) (i32.const 97)) (i32.const 0))))
        (then (return (i32.const 108))))
      (if (i32.or (i32.eq (local.get $op) (i32.const 82))
          (i32.or (i32.eq (local.get $op) (i32.const 65)) (i32.const 0)))
        (then (return (i32.const 114))))
      (if (i32.or (i32.eq (local.get $op) (i32.const 61))
          (i32.or (i32.eq (local.get $op) (i32.const 45))
          (i32.or (i32.eq (local.get $op) (i32.const 43)) (i32.const 0))))
        (then (return (i32.const 115))))
      (if (i32.or (i32.eq (local.get $op) (i32.const 105))
          (i32.or (i32.eq (local.get $op) (i32.const 117))
          (i32.or (i32.eq (local.get $op) (i32.const 115))
          (i32.or (i32.eq (local.get $op) (i32.const 119)) (i32.const 0)))))
        (then (return (i32.const 101))))
      (if (i32.or (i32.eq (local.get $op) (i32.const 78))
          (i32.or (i32.eq (local.get $op) (i32.const 110))
          (i32.or (i32.eq (local.get $op) (i32.const 87))
          (i32.or (i32.eq (local.get $op) (i32.const 75))
          (i32.or (i32.eq (local.get $op) (i32.const 107)) (i32.const 0))))))
        (then (return (i32.const 107))))
      (if (i32.or (i32.eq (local.get $op) (i32.const 89))
          (i32.or (i32.eq (local.get $op) (i32.const 67))
          (i32.or (i32.eq (local.get $op) (i32.const 66))
          (i32.or (i32.eq (local.get $op) (i32.const 98)) (i32.const 0)))))
        (then (return (i32.const 98))))
      (if (i32.or (i32.eq (local.get $op) (i32.const 41))
          (i32.or (i32.eq (local.get $op) (i32.const 63))
          (i32.or (i32.eq (local.get $op) (i32.const 40))
          (i32.or (i32.eq (local.get $op) (i32.const 60))
          (i32.or (i32.eq (local.get $op) (i32.const 62)) (i32.const 0))))))
        (then (return (i32.const 99))))
      (if (i32.or (i32.eq (local.get $op) (i32.const 86))
          (i32.or (i32.eq (local.get $op) (i32.const 118)) (i32.const 0)))
        (then (return (i32.const 118))))
      (if (i32.or (i32.eq (local.get $op) (i32.const 84))
          (i32.or (i32.eq (local.get $op) (i32.const 83))
          (i32.or (i32.eq (local.get $op) (i32.const 70))
          (i32.or (i32.eq (local.get $op) (i32.const 88))
          (i32.or (i32.eq (local.get $op) (i32.const 69))
          (i32.or (i32.eq (local.get $op) (i32.const 68)) (i32.const 0)))))))
        (then (return (i32.const 100))))
      (i32.const 0))
    (func $forever (loop $l (br $l)))

    ;; Executes one instruction.
    (func $step (param $op i32)
      (local $h i32)
      (if (i32.and (i32.ge_u (local.get $op) (i32.const 48)) (i32.le_u (local.get $op) (i32.const 57)))
        (then (global.set $digit (local.get $op))))
      (if (i32.eq (local.get $op) (i32.const 44)) (then (global.set $timed (i32.const 0))))
      (if (i32.eq (local.get $op) (i32.const 46))
        (then (global.set $timed (i32.const 1)) (global.set $timeout (i64.const 0))))
      (if (i32.eq (local.get $op) (i32.const 59))
        (then (global.set $timed (i32.const 1)) (global.set $timeout (i64.const 20000000))))
      (if (i32.eq (local.get $op) (i32.const 122)) (then (unreachable)))
      (if (i32.eq (local.get $op) (i32.const 111)) (then (call $forever)))
      (if (i32.eq (local.get $op) (i32.const 120)) (then
        (global.set $again (global.get $at))
        (global.set $times (i32.const 999))
        (global.set $kept (global.get $free))))
      (if (i32.eq (local.get $op) (i32.const 72))
        (then (call $queue.close (i32.const 99) (i32.const 16))))
      (if (i32.eq (local.get $op) (i32.const 102))
        (then (call $queue.close (call $handle (i32.const 108)) (i32.const 16))))
      (if (call $kind-of (local.get $op)) (then
        (local.set $h (call $handle (call $kind-of (local.get $op))))
        (if (local.get $h) (then (call $on (local.get $op) (local.get $h)))))))
    (func (export "run") (param $record i32) (param $len i32) (result i32)
      (local $op i32)
      (global.set $at (local.get $record))
      (global.set $end (i32.add (local.get $record) (local.get $len)))
      (global.set $out-len (i32.const 0))
      (global.set $digit (i32.const 48))
      (global.set $timed (i32.const 0))
      (global.set $times (i32.const 0))
      (i32.store8 (i32.const 80) (i32.const 0))
      (loop $program
        (loop $next
          (if (i32.lt_u (global.get $at) (global.get $end)) (then
            (local.set $op (i32.load8_u (global.get $at)))
            (global.set $at (i32.add (global.get $at) (i32.const 1)))
            (call $step (local.get $op))
            (br $next))))
        (if (global.get $times) (then
          (global.set $times (i32.sub (global.get $times) (i32.const 1)))
          (global.set $at (global.get $again))
          (global.set $free (global.get $kept))
          (global.set $out-len (i32.const 0))
          (br $program))))
      (i32.store (i32.const 84) (global.get $out))
      (i32.store (i32.const 88) (global.get $out-len))
      (i32.const 80))
    (func (export "cabi_post_run") (param i32) (global.set $free (i32.const 65536))))

  (core instance $guest (instantiate $guest
    (with "libc" (instance $libc))
    (with "host" (instance
      (export "queue.open" (func $queue.open))
      (export "queue.put" (func $queue.put))
      (export "queue.put-many" (func $queue.put-many))
      (export "queue.get" (func $queue.get))
      (export "queue.get-many" (func $queue.get-many))
      (export "queue.status" (func $queue.status))
      (export "queue.task-done" (func $queue.task-done))
      (export "queue.join" (func $queue.join))
      (export "queue.close" (func $queue.close))
      (export "connection.open" (func $connection.open))
      (export "connection.send" (func $connection.send))
      (export "connection.recv" (func $connection.recv))
      (export "connection.poll" (func $connection.poll))
      (export "connection.close" (func $connection.close))
      (export "value.open" (func $value.open))
      (export "value.add" (func $value.add))
      (export "value.compare-exchange" (func $value.compare-exchange))
      (export "dict.open" (func $dict.open))
      (export "dict.get" (func $dict.get))
      (export "dict.put" (func $dict.put))
      (export "dict.remove" (func $dict.remove))
      (export "dict.keys" (func $dict.keys))
      (export "dict.len" (func $dict.len))
      (export "dict.compare-exchange" (func $dict.compare-exchange))
      (export "lock.open" (func $lock.open))
      (export "lock.acquire" (func $lock.acquire))
      (export "lock.release" (func $lock.release))
      (export "lock.locked" (func $lock.locked))
      (export "r-lock.open" (func $r-lock.open))
      (export "r-lock.acquire" (func $r-lock.acquire))
      (export "r-lock.release" (func $r-lock.release))
      (export "semaphore.open" (func $semaphore.open))
      (export "semaphore.acquire" (func $semaphore.acquire))
      (export "semaphore.release" (func $semaphore.release))
      (export "semaphore.value" (func $semaphore.value))
      (export "event.open" (func $event.open))
      (export "event.set" (func $event.set))
      (export "event.clear" (func $event.clear))
      (export "event.is-set" (func $event.is-set))
      (export "event.wait" (func $event.wait))
      (export "condition.open" (func $condition.open))
      (export "condition.acquire" (func $condition.acquire))
      (export "condition.release" (func $condition.release))
      (export "condition.wait" (func $condition.wait))
      (export "condition.notify" (func $condition.notify))
      (export "condition.notify-all" (func $condition.notify-all))
      (export "barrier.open" (func $barrier.open))
      (export "barrier.wait" (func $barrier.wait))
      (export "barrier.abort" (func $barrier.abort))
      (export "barrier.reset" (func $barrier.reset))
      (export "barrier.status" (func $barrier.status))
      (export "wait" (func $wait))))))
  (func $run (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $guest "run")
      (memory (core memory $memory)) (realloc (core func $libc "cabi_realloc"))
      (post-return (core func $guest "cabi_post_run"))))
  (export "run" (func $run)))
