// Package suite runs and reports the tests of a Go client: `ok NAME` or `FAIL NAME: why`, one line each.
//
// Usage of each program: PROGRAM BOOTSTRAP [PATTERN]. It exits non-zero when a test failed.
package suite

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"
)

const testTimeout = 90 * time.Second

// Partitions is how many a topic has that a group shares.
const Partitions = 4

var (
	// Bootstrap is the address of the node.
	Bootstrap = ""
	pattern   = ""
	failed    = 0
	run       = suffix()
)

// Row is what one record holds, whatever the client calls it.
type Row struct{ Key, Value string }

type failure string

// Fail ends the test.
func Fail(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }

// Check ends the test unless err is nil.
func Check(err error, what string) {
	if err != nil {
		Fail("%s: %v", what, err)
	}
}

// Equal ends the test unless both are the same.
func Equal[T comparable](got, want T, what string) {
	if got != want {
		Fail("%s: got %v, want %v", what, got, want)
	}
}

// Await ends the test unless the condition holds within a minute.
func Await(what string, condition func() bool) {
	for end := time.Now().Add(time.Minute); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			Fail("timed out: %s", what)
		}
	}
}

func suffix() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// Name is unique in this run, so that a suite can be repeated on the same node.
func Name(name string) string { return "go-" + name + "-" + run + "-" + suffix() }

// Rows are so many keyed records whose values begin with `mark` and differ in length.
func Rows(mark string, count int) []Row {
	var out []Row
	for i := range count {
		value := fmt.Sprintf("%s-%d-%s", mark, i, strings.Repeat("x", i%200))
		out = append(out, Row{fmt.Sprintf("key-%d", i%40), value})
	}
	return out
}

// Once ends the test unless every row was read, and none of them twice.
func Once(got, want []Row, what string) {
	seen := map[Row]int{}
	for _, row := range got {
		seen[row]++
	}
	for _, row := range want {
		Equal(seen[row], 1, fmt.Sprintf("%s: how often %s came", what, row.Value))
	}
	Equal(len(got), len(want), what)
}

// Test runs one test.
func Test(name string, body func()) { Together([]string{name}, func(int) { body() }) }

// Together runs tests at the same time: those of groups mostly wait. body(i) is the one called names[i].
func Together(names []string, body func(int)) {
	ends := make([]chan string, len(names))
	for i, name := range names {
		ends[i] = make(chan string, 1)
		if strings.Contains(name, pattern) {
			go attempt(func() { body(i) }, ends[i])
		}
	}
	for i, name := range names {
		if strings.Contains(name, pattern) {
			report(name, ends[i])
		}
	}
}

func attempt(body func(), done chan<- string) {
	defer func() {
		switch r := recover().(type) {
		case nil:
			done <- ""
		case failure:
			done <- string(r)
		default:
			done <- fmt.Sprintf("panic: %v", r)
		}
	}()
	body()
}

func report(name string, done <-chan string) {
	why := ""
	select {
	case why = <-done:
	case <-time.After(testTimeout):
		why = "did not end in time"
	}
	if why == "" {
		fmt.Println("ok " + name)
		return
	}
	failed++
	fmt.Printf("FAIL %s: %s\n", name, strings.ReplaceAll(why, "\n", " "))
}

// Main reads the arguments, runs the tests and exits.
func Main(tests func()) {
	if len(os.Args) < 2 {
		fmt.Fprintf(os.Stderr, "usage: %s BOOTSTRAP [PATTERN]\n", os.Args[0])
		os.Exit(2)
	}
	Bootstrap = os.Args[1]
	if len(os.Args) > 2 {
		pattern = os.Args[2]
	}
	tests()
	if failed > 0 {
		os.Exit(1)
	}
}
