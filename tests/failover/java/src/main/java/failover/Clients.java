package failover;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.selector.SelectMessageQueueByHash;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Clients NAMESRV RATE: three synchronous, two asynchronous and one ordered producer, each with RATE messages a second, a
 * concurrent and an orderly consumer; all at default settings, each an instance of its own, as if it were a program of its own.
 *
 * <p>Standard output has one line for each thing that happened, fields by tab, times in ms of the monotonic clock:
 * <pre>
 *   ack       PRODUCER NUMBER KEY SENT DONE
 *   fail      PRODUCER NUMBER KEY SENT DONE WHY
 *   consumed  CONSUMER PRODUCER NUMBER KEY WHEN BROKER/QUEUE/OFFSET
 *   quiet                       no producer sends any more, and each send had its end
 * </pre>
 * Standard input takes `quiet` (producers stop) and `end`; its end is an `end`, too.
 */
public final class Clients {
    static final String PLAIN = "FailoverPlain";
    static final String ORDERED = "FailoverOrdered";
    static final int KEYS = 12;
    /** A client asks for routes every 30 s from its start: six producers, evenly over that time. */
    static final long APART_MS = 5_000;
    /** What a send takes at most, retries and time-out included; nothing is under way longer. */
    static final long SEND_MS_MAX = 20_000;

    // The client library must not write between the lines.
    static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    static final AtomicInteger UNDER_WAY = new AtomicInteger();
    static volatile boolean sending = true;

    public static void main(String[] args) throws Exception {
        System.setOut(System.err);
        String names = args[0];
        int rate = Integer.parseInt(args[1]);
        concurrent(names);
        orderly(names);
        List<Thread> producers = new ArrayList<>();
        for (String name : new String[] {"sync-1", "async-1", "ordered-1", "sync-2", "async-2", "sync-3"}) {
            pause(APART_MS);
            DefaultMQProducer producer = new DefaultMQProducer("FailoverProducer-" + name);
            producer.setNamesrvAddr(names);
            producer.setInstanceName(name);
            producer.start();
            Thread thread = new Thread(() -> produce(producer, name, rate), name);
            thread.start();
            producers.add(thread);
        }
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null && !line.equals("end"); line = in.readLine()) {
            if (!line.equals("quiet")) {
                continue;
            }
            sending = false;
            for (Thread thread : producers) {
                thread.join(SEND_MS_MAX);
            }
            long until = now() + SEND_MS_MAX;
            while (UNDER_WAY.get() > 0 && now() < until) {
                pause(20);
            }
            say("quiet");
        }
        // Not shutdown(): what is to be known is known, and it would wait for whoever is gone.
        Runtime.getRuntime().halt(0);
    }

    static long now() {
        return System.nanoTime() / 1_000_000;
    }

    static void pause(long ms) {
        LockSupport.parkNanos(ms * 1_000_000);
    }

    static void say(String... fields) {
        synchronized (OUT) {
            OUT.println(String.join("\t", fields));
            OUT.flush();
        }
    }

    static void produce(DefaultMQProducer producer, String name, int rate) {
        long due = now();
        for (int n = 0; sending; n++) {
            send(producer, name, n);
            due = Math.max(due + 1000 / rate, now()); // nothing is made up for
            while (now() < due) {
                pause(due - now());
            }
        }
    }

    static void send(DefaultMQProducer producer, String name, int n) {
        boolean ordered = name.startsWith("ordered");
        String key = ordered ? "k" + n % KEYS : "-";
        byte[] body = (name + " " + n + " " + key).getBytes(StandardCharsets.UTF_8);
        Message message = new Message(ordered ? ORDERED : PLAIN, body);
        String[] what = {name, Integer.toString(n), key, Long.toString(now())};
        UNDER_WAY.incrementAndGet();
        try {
            if (name.startsWith("async")) {
                producer.send(message, new SendCallback() {
                    @Override public void onSuccess(SendResult result) {
                        done(what, result);
                    }

                    @Override public void onException(Throwable why) {
                        failed(what, why);
                    }
                });
            } else if (ordered) {
                done(what, producer.send(message, new SelectMessageQueueByHash(), key));
            } else {
                done(what, producer.send(message));
            }
        } catch (Exception why) {
            failed(what, why);
        }
    }

    static void done(String[] what, SendResult result) {
        UNDER_WAY.decrementAndGet();
        if (result.getSendStatus() == SendStatus.SEND_OK) {
            say("ack", what[0], what[1], what[2], what[3], Long.toString(now()));
        } else {
            say("fail", what[0], what[1], what[2], what[3], Long.toString(now()), result.getSendStatus().name());
        }
    }

    static void failed(String[] what, Throwable why) {
        UNDER_WAY.decrementAndGet();
        Throwable root = why;
        while (root.getCause() != null && root.getCause() != root) {
            root = root.getCause();
        }
        String text = String.valueOf(root.getMessage()).replaceAll("\\s+", " ");
        text = root.getClass().getSimpleName() + ": " + text.substring(0, Math.min(160, text.length()));
        say("fail", what[0], what[1], what[2], what[3], Long.toString(now()), text);
    }

    static DefaultMQPushConsumer consumer(String names, String name, String topic) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("FailoverConsumer-" + name);
        consumer.setNamesrvAddr(names);
        consumer.setInstanceName(name);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        return consumer;
    }

    static void concurrent(String names) throws Exception {
        DefaultMQPushConsumer consumer = consumer(names, "concurrent", PLAIN);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            consumed("concurrent", messages);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
    }

    static void orderly(String names) throws Exception {
        DefaultMQPushConsumer consumer = consumer(names, "orderly", ORDERED);
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            consumed("orderly", messages);
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
    }

    static void consumed(String name, List<MessageExt> messages) {
        for (MessageExt message : messages) {
            String[] body = new String(message.getBody(), StandardCharsets.UTF_8).split(" ");
            String at = message.getBrokerName() + "/" + message.getQueueId() + "/" + message.getQueueOffset();
            say("consumed", name, body[0], body[1], body[2], Long.toString(now()), at);
        }
    }
}
