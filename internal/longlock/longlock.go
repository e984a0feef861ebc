// Package longlock owns locks for holders who wait: for a disk, or for another node. They are used like those of package
// sync. It promises that who waits for one lets the time of a testing/synctest bubble go on, which stands still while
// somebody waits for a sync.Mutex: a simulated disk that is slow, or a link that is, would never be done. Engine and
// cluster use it for locks that are held over I/O; where nothing waits under a lock, sync's are cheaper. It is fair to
// nobody and starts no goroutine.
package longlock

import "sync"

// Mutex is a lock with one holder. The zero value is free.
type Mutex struct{ rw RWMutex }

// Lock waits for the lock.
func (m *Mutex) Lock() { m.rw.Lock() }

// TryLock takes the lock if it is free, and reports whether it did.
func (m *Mutex) TryLock() bool {
	m.rw.mu.Lock()
	defer m.rw.mu.Unlock()
	if m.rw.holders != 0 {
		return false
	}
	m.rw.holders = exclusive
	return true
}

// Unlock lets go of the lock.
func (m *Mutex) Unlock() { m.rw.Unlock() }

// exclusive is the number of holders that stands for one who writes.
const exclusive = -1

// RWMutex is a lock with one holder, or with many who only read. The zero value is free. Unlike with sync's, readers who
// come do not make room for a writer who waits.
type RWMutex struct {
	mu      sync.Mutex // held for an instant; guards holders
	freed   sync.Cond  // holders became 0; waiting for it, unlike for mu, counts as waiting in a bubble
	holders int
}

// Lock waits until nobody holds the lock.
func (m *RWMutex) Lock() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.holders != 0 {
		m.wait()
	}
	m.holders = exclusive
}

// RLock waits until nobody holds the lock for writing.
func (m *RWMutex) RLock() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.holders == exclusive {
		m.wait()
	}
	m.holders++
}

func (m *RWMutex) wait() {
	m.freed.L = &m.mu
	m.freed.Wait()
}

// Unlock ends a Lock.
func (m *RWMutex) Unlock() { m.release(exclusive) }

// RUnlock ends an RLock.
func (m *RWMutex) RUnlock() { m.release(1) }

func (m *RWMutex) release(held int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.holders == 0 || (m.holders == exclusive) != (held == exclusive) {
		panic("longlock: unlock of a lock that is not held so")
	}
	if m.holders -= held; m.holders == 0 {
		m.freed.Broadcast()
	}
}
