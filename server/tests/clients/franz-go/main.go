// The franz-go suite: the kgo client for what applications do, raw kmsg requests for every version
// and every kind of bad input.
//
// Usage: franz-go BOOTSTRAP [PATTERN]. One line per test; exits non-zero when one failed.
// What only jangbu answers (TARGET=jangbu) is not run against Kafka.
package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

var (
	bootstrap = os.Getenv("BOOTSTRAP")
	onJangbu  = os.Getenv("TARGET") == "jangbu"
	pattern   = ""
	failed    = 0
	run       = randomSuffix()
)

const testTimeout = 90 * time.Second

func randomSuffix() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// topicName is unique in this run, so a suite can be repeated on the same node.
func topicName(name string) string { return "go-" + name + "-" + run + "-" + randomSuffix() }

type failure string

func fail(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }

func check(err error, what string) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func equal[T comparable](got, want T, what string) {
	if got != want {
		fail("%s: got %v, want %v", what, got, want)
	}
}

// Tests that run at the same time: they wait for the node more than they compute.
const atATime = 8

var (
	reports sync.Mutex
	// What runs at the same time; nil while tests run one after the other.
	running *sync.WaitGroup
	slots   = make(chan struct{}, atATime)
)

// atOnce runs the tests that define calls at the same time, and waits for them. None may depend on another.
func atOnce(define func()) {
	running = &sync.WaitGroup{}
	define()
	running.Wait()
	running = nil
}

func test(name string, body func()) {
	if !strings.Contains(name, pattern) {
		return
	}
	if running == nil {
		runTest(name, body)
		return
	}
	running.Add(1)
	slots <- struct{}{}
	go func() {
		defer func() { <-slots; running.Done() }()
		runTest(name, body)
	}()
}

func runTest(name string, body func()) {
	done := make(chan string, 1)
	go func() {
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
	}()
	why := ""
	select {
	case why = <-done:
	case <-time.After(testTimeout):
		why = "did not end in time"
	}
	reports.Lock()
	defer reports.Unlock()
	if why == "" {
		fmt.Println("ok " + name)
		return
	}
	failed++
	fmt.Printf("FAIL %s: %s\n", name, strings.ReplaceAll(why, "\n", " "))
}

func main() {
	if len(os.Args) > 1 {
		bootstrap = os.Args[1]
	}
	if len(os.Args) > 2 {
		pattern = os.Args[2]
	}
	if bootstrap == "" {
		fmt.Fprintln(os.Stderr, "usage: franz-go BOOTSTRAP [PATTERN]")
		os.Exit(2)
	}
	clientTests()
	versionTests()
	badInputTests()
	sequenceTests()
	offsetTests()
	adminTests()
	configTests()
	storedTests()
	sessionTests()
	atOnce(groupTests)
	spaceTests()
	if failed > 0 {
		os.Exit(1)
	}
}
