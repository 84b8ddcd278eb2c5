import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Scanner;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.common.utils.Exit;

/**
 * Kafka's command-line tools one after the other in one JVM, whose start costs more than most of them do.
 *
 * Usage: Toolbox SECONDS PATH-OF-kafka-tools.jar. Each line of standard input is one run of a tool: a file with its input or "-", its class, its
 * arguments, between tabs. Its answer is a line with the exit code and how many bytes follow, and then what it printed to both outputs.
 *
 * Each run has the tools' classes to itself, since they were written to run once. A tool that takes longer than SECONDS is answered with 124,
 * and the toolbox ends.
 */
public final class Toolbox {
    private static final int LATE = 124;
    private static final int NOT_YET = Integer.MIN_VALUE;

    /** What a tool ends with where it would end the JVM. */
    private static final class Ended extends Error {
        private Ended() {
            super(null, null, false, false);
        }
    }

    /** Where the outputs of the tool that runs go: whoever took hold of System.out before writes there, too. */
    private static final class Output extends OutputStream {
        private ByteArrayOutputStream into = new ByteArrayOutputStream();
        private boolean closed;

        @Override
        public synchronized void write(int b) {
            write(new byte[] {(byte) b}, 0, 1);
        }

        @Override
        public synchronized void write(byte[] bytes, int from, int count) {
            if (!closed) {
                into.write(bytes, from, count);
            }
        }

        /** Whether nothing is taken any more: the tool has ended, though it does not know. */
        synchronized void close(boolean closed) {
            this.closed = closed;
        }

        synchronized byte[] taken() {
            byte[] all = into.toByteArray();
            into = new ByteArrayOutputStream();
            return all;
        }
    }

    /** Takes the classes of kafka-tools from its own copy of the jar, everything else from the JVM's. */
    private static final class ToolsLoader extends URLClassLoader {
        ToolsLoader(URL tools) {
            super(new URL[] {tools}, Toolbox.class.getClassLoader());
        }

        @Override
        protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
            synchronized (getClassLoadingLock(name)) {
                Class<?> found = findLoadedClass(name);
                if (found == null && name.startsWith("org.apache.kafka.tools.")) {
                    try {
                        found = findClass(name);
                    } catch (ClassNotFoundException elsewhere) {
                        found = null;
                    }
                }
                return found == null ? super.loadClass(name, resolve) : found;
            }
        }
    }

    private final Output output = new Output();
    private final URL tools;
    private final long seconds;

    private Toolbox(long seconds, URL tools) {
        this.seconds = seconds;
        this.tools = tools;
    }

    public static void main(String[] args) throws Exception {
        DataOutputStream answers = new DataOutputStream(System.out);
        Toolbox box = new Toolbox(Long.parseLong(args[0]), Path.of(args[1]).toUri().toURL());
        Scanner lines = new Scanner(System.in, StandardCharsets.UTF_8);
        PrintStream out = new PrintStream(box.output, true, StandardCharsets.UTF_8);
        System.setOut(out);
        System.setErr(out);
        int code = 0;
        while (code != LATE && lines.hasNextLine()) {
            code = box.answer(lines.nextLine().split("\t", -1), answers);
        }
        Runtime.getRuntime().halt(0);
    }

    private int answer(String[] asked, DataOutputStream answers) throws Exception {
        InputStream input = asked[0].equals("-") ? InputStream.nullInputStream() : new ByteArrayInputStream(Files.readAllBytes(Path.of(asked[0])));
        System.setIn(input);
        output.taken();
        int code = run(asked[1], Arrays.copyOfRange(asked, 2, asked.length));
        byte[] printed = output.taken();
        answers.write((code + " " + printed.length + "\n").getBytes(StandardCharsets.UTF_8));
        answers.write(printed);
        answers.flush();
        return code;
    }

    private int run(String tool, String[] arguments) throws Exception {
        AtomicInteger code = new AtomicInteger(NOT_YET);
        List<Runnable> hooks = new ArrayList<>();
        Exit.Procedure end = (status, message) -> {
            // The first one counts: a tool may take its own end for a failure.
            code.compareAndSet(NOT_YET, status);
            output.close(true);
            throw new Ended();
        };
        Exit.setExitProcedure(end);
        Exit.setHaltProcedure(end);
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        Thread thread = new Thread(() -> call(tool, arguments, code, hooks), "main");
        thread.setDaemon(true);
        thread.start();
        thread.join(TimeUnit.SECONDS.toMillis(seconds));
        output.close(false);
        if (thread.isAlive()) {
            return LATE;
        }
        code.compareAndSet(NOT_YET, 0);
        return code.get();
    }

    /** Runs the tool's main method, and then what it wants done at its end. */
    private void call(String tool, String[] arguments, AtomicInteger code, List<Runnable> hooks) {
        try (ToolsLoader loader = new ToolsLoader(tools)) {
            Thread.currentThread().setContextClassLoader(loader);
            try {
                loader.loadClass(tool).getMethod("main", String[].class).invoke(null, (Object) arguments);
            } catch (InvocationTargetException thrown) {
                // What main throws is printed as the JVM would.
                if (!(thrown.getCause() instanceof Ended)) {
                    System.err.print("Exception in thread \"main\" ");
                    thrown.getCause().printStackTrace();
                    code.compareAndSet(NOT_YET, 1);
                }
            }
            output.close(false);
            hooks.forEach(Runnable::run);
        } catch (Exception unknown) {
            unknown.printStackTrace();
            code.compareAndSet(NOT_YET, 1);
        }
    }
}
