// Command clients NAMESRV RATE: a synchronous, an asynchronous and an ordered producer, each with RATE messages a second, a
// concurrent and an orderly consumer; the official Go client at default settings, each an instance of its own, as if it were
// a program of its own.
//
// Standard output and input are those of the Java clients (java/src/main/java/failover/Clients.java): a line for each thing
// that happened, fields by tab, times in ms of the monotonic clock.
//
//	ack       PRODUCER NUMBER KEY SENT DONE
//	fail      PRODUCER NUMBER KEY SENT DONE WHY
//	consumed  CONSUMER PRODUCER NUMBER KEY WHEN BROKER/QUEUE/OFFSET
//	quiet                       no producer sends any more, and each send had its end
//
// What the library logs goes to standard error, warnings and worse.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
	"golang.org/x/sys/unix"
)

const (
	plain   = "FailoverGoPlain"
	ordered = "FailoverGoOrdered"
	keys    = 12
	// A client asks for routes every 30 s from its start: three producers, evenly over that time.
	apart = 10 * time.Second
	// The longest that a send may be under way: four tries of 3 s, and some.
	sendMax = 20 * time.Second
	whyMax  = 160
)

var (
	out      = bufio.NewWriter(os.Stdout)
	outLock  sync.Mutex
	underWay atomic.Int64
	stopped  atomic.Bool
)

func main() {
	if len(os.Args) != 3 {
		fail("usage: clients NAMESRV RATE")
	}
	rate, err := strconv.Atoi(os.Args[2])
	if err != nil || rate < 1 {
		fail("RATE is a number from 1 on, not " + os.Args[2])
	}
	rlog.SetLogLevel("warn")
	// Without a handler an asynchronous send that is not answered within 3 s ends the process: after the callback with the error the
	// library goes on with the answer that there is not (v2.1.2, producer.go:411).
	primitive.PanicHandler = func(why interface{}) { rlog.Warning(fmt.Sprintf("the library panicked: %v", why), nil) }
	names := primitive.NewPassthroughResolver(strings.Split(os.Args[1], ";"))
	consume(names, "go-concurrent", plain, false)
	consume(names, "go-orderly", ordered, true)

	var producers sync.WaitGroup
	quiet := make(chan struct{})
	go func() {
		commands(quiet)
		os.Exit(0) // what is to be known is known; a shutdown would wait for whoever is gone
	}()
	for _, name := range []string{"go-sync-1", "go-async-1", "go-ordered-1"} {
		pause(apart, quiet)
		options := []producer.Option{
			producer.WithGroupName("FailoverProducer-" + name),
			producer.WithInstanceName(name),
			producer.WithNsResolver(names),
		}
		if name == "go-ordered-1" {
			options = append(options, producer.WithQueueSelector(producer.NewHashQueueSelector()))
		}
		p, err := rocketmq.NewProducer(options...)
		must(err)
		must(p.Start())
		producers.Add(1)
		go func() {
			defer producers.Done()
			produce(p, name, rate)
		}()
	}
	producers.Wait()
	for until := time.Now().Add(sendMax); underWay.Load() > 0 && time.Now().Before(until); {
		time.Sleep(20 * time.Millisecond)
	}
	say("quiet")
	select {} // until `end`
}

// commands reads standard input until `end`, or its own end.
func commands(quiet chan<- struct{}) {
	for in := bufio.NewScanner(os.Stdin); in.Scan() && in.Text() != "end"; {
		if in.Text() == "quiet" && stopped.CompareAndSwap(false, true) {
			close(quiet)
		}
	}
}

// pause waits, but not longer than until producers are to stop.
func pause(d time.Duration, quiet <-chan struct{}) {
	select {
	case <-time.After(d):
	case <-quiet:
	}
}

func produce(p rocketmq.Producer, name string, rate int) {
	due := time.Now()
	for n := 0; !stopped.Load(); n++ {
		send(p, name, n)
		due = due.Add(time.Second / time.Duration(rate))
		if late := time.Now(); due.Before(late) {
			due = late // nothing is made up for
		}
		time.Sleep(time.Until(due))
	}
}

func send(p rocketmq.Producer, name string, n int) {
	topic, key := plain, "-"
	if name == "go-ordered-1" {
		topic, key = ordered, fmt.Sprintf("k%d", n%keys)
	}
	message := primitive.NewMessage(topic, []byte(fmt.Sprintf("%s %d %s", name, n, key)))
	what := []string{name, strconv.Itoa(n), key, now()}
	underWay.Add(1)
	var once sync.Once // the library may call back twice after an error
	done := func(result *primitive.SendResult, err error) {
		once.Do(func() { ended(what, result, err) })
	}
	if name != "go-async-1" {
		if key != "-" {
			message.WithShardingKey(key)
		}
		done(p.SendSync(context.Background(), message))
		return
	}
	err := p.SendAsync(context.Background(), func(_ context.Context, result *primitive.SendResult, err error) {
		done(result, err)
	}, message)
	if err != nil {
		done(nil, err)
	}
}

func ended(what []string, result *primitive.SendResult, err error) {
	underWay.Add(-1)
	switch {
	case err != nil:
		why := strings.Join(strings.Fields(err.Error()), " ")
		say(append(append([]string{"fail"}, what...), now(), why[:min(whyMax, len(why))])...)
	case result.Status != primitive.SendOK:
		say(append(append([]string{"fail"}, what...), now(), fmt.Sprintf("status %d", result.Status))...)
	default:
		say(append(append([]string{"ack"}, what...), now())...)
	}
}

func consume(names primitive.NsResolver, name, topic string, orderly bool) {
	c, err := rocketmq.NewPushConsumer(
		consumer.WithGroupName("FailoverConsumer-"+name),
		consumer.WithInstance(name),
		consumer.WithNsResolver(names),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
		consumer.WithConsumerOrder(orderly))
	must(err)
	must(c.Subscribe(topic, consumer.MessageSelector{},
		func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			for _, m := range messages {
				body := strings.Fields(string(m.Body))
				if len(body) != 3 {
					fail(fmt.Sprintf("consumed what nobody sent: %q", m.Body))
				}
				at := fmt.Sprintf("%s/%d/%d", m.Queue.BrokerName, m.Queue.QueueId, m.QueueOffset)
				say("consumed", name, body[0], body[1], body[2], now(), at)
			}
			return consumer.ConsumeSuccess, nil
		}))
	must(c.Start())
}

// now is in ms of CLOCK_MONOTONIC, which Java's System.nanoTime() and Python's time.monotonic() read on Linux.
func now() string {
	var t unix.Timespec
	must(unix.ClockGettime(unix.CLOCK_MONOTONIC, &t))
	return strconv.FormatInt(t.Nano()/1e6, 10)
}

func say(fields ...string) {
	outLock.Lock()
	defer outLock.Unlock()
	_, _ = io.WriteString(out, strings.Join(fields, "\t")+"\n")
	if out.Flush() != nil {
		os.Exit(1) // nobody reads any more
	}
}

func must(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, "clients:", why)
	os.Exit(1)
}
