// pgjdbc through the proxy. Prints one line for each step.
import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Arrays;
import java.util.Objects;
import java.util.Properties;
import java.util.concurrent.CompletableFuture;
import org.postgresql.PGConnection;

public class PgJdbc {
    static final String TENANT = System.getenv("PGVPD_TENANT");
    static final String ROWS = "SELECT DISTINCT tenant_id || ' ' || count(*) OVER () FROM notes";
    static final String SLEEP = "SELECT pg_sleep(60) /* " + TENANT + " */";
    static final String RUNNING =
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = '" + SLEEP + "'";

    static Connection connect(String user) throws SQLException {
        return connect(user, System.getenv("PGDATABASE"));
    }

    static Connection connect(String user, String database) throws SQLException {
        var settings = new Properties();
        settings.setProperty("user", user);
        settings.setProperty("password", System.getenv("PGPASSWORD"));
        settings.setProperty("sslmode", "disable");
        settings.setProperty("loginTimeout", "30");
        settings.setProperty("prepareThreshold", "2");
        return DriverManager.getConnection("jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT")
            + "/" + database, settings);
    }

    static String value(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getString(1);
        }
    }

    interface Work {
        void run() throws SQLException;
    }

    static SQLException refused(Work work) {
        try {
            work.run();
        } catch (SQLException error) {
            return error;
        }
        throw new AssertionError("it succeeded");
    }

    static void same(Object expected, Object found) {
        if (!Objects.equals(expected, found)) {
            throw new AssertionError("expected " + expected + ", got " + found);
        }
    }

    static void ok(String step) {
        System.out.println("ok " + step);
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println("client " + org.postgresql.util.DriverInfo.DRIVER_VERSION);
        Connection acme = connect("app_user.acme"), globex = connect("app_user.globex"), own = connect("app_user." + TENANT);
        same("acme 3", value(acme, ROWS));
        same("globex 2", value(globex, ROWS));
        ok("isolation");

        same("42501", refused(() -> value(acme, "INSERT INTO notes (tenant_id, body) VALUES ('globex', 'x')")).getSQLState());
        try (var statement = acme.createStatement()) {
            same(0, statement.executeUpdate("UPDATE notes SET body = 'x' WHERE tenant_id = 'globex'"));
        }
        ok("foreign_write");

        try (var statement = acme.prepareStatement("SELECT ? || current_tenant_id()")) {
            statement.setString(1, "it's ");
            var rows = statement.executeQuery();
            rows.next();
            same("it's acme", rows.getString(1));
        }
        ok("parameters");

        try (var statement = acme.prepareStatement("SELECT ?::int + 1")) {
            for (int number = 0; number < 5; number++) {
                statement.setInt(1, number);
                var rows = statement.executeQuery();
                rows.next();
                same(number + 1, rows.getInt(1));
            }
        }
        same("1", value(acme, "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%::int + 1'"));
        ok("prepared");

        // A batch goes out in one piece, ahead of its answers.
        try (var statement = own.prepareStatement("INSERT INTO notes (body) VALUES (?)")) {
            for (int number = 0; number < 500; number++) {
                statement.setString(1, "batch " + number);
                statement.addBatch();
            }
            same(500, Arrays.stream(statement.executeBatch()).sum());
        }
        same("500", value(own, "WITH gone AS (DELETE FROM notes RETURNING 1) SELECT count(*) FROM gone"));
        ok("pipeline");

        own.setAutoCommit(false);
        try (var statement = own.createStatement()) {
            statement.executeUpdate("INSERT INTO notes (body) VALUES ('kept')");
            own.commit();
            statement.executeUpdate("INSERT INTO notes (body) VALUES ('lost')");
            own.rollback();
        }
        own.setAutoCommit(true);
        same("kept", value(own, "SELECT string_agg(body, ' ') FROM notes"));
        ok("transaction");

        var copy = own.unwrap(PGConnection.class).getCopyAPI();
        var lines = new StringBuilder();
        for (int number = 0; number < 1000; number++) {
            lines.append(TENANT).append(' ').append(number).append('\n');
        }
        same(1000L, copy.copyIn("COPY uploads FROM STDIN", new StringReader(lines.toString())));
        var output = new StringWriter();
        copy.copyOut("COPY (SELECT body FROM uploads WHERE body LIKE '" + TENANT + " %') TO STDOUT", output);
        same(1000L, output.toString().lines().count());
        ok("copy");

        var statement = own.createStatement();
        var state = CompletableFuture.supplyAsync(() -> refused(() -> statement.executeQuery(SLEEP)).getSQLState());
        while (!value(acme, RUNNING).equals("1")) {
            Thread.onSpinWait();
        }
        statement.cancel();
        same("57014", state.get());
        same(TENANT, value(own, "SELECT current_tenant_id()"));
        ok("cancel");

        own.close();
        same(TENANT, value(connect("app_user." + TENANT), "SELECT current_tenant_id()"));
        ok("reconnect");

        var error = refused(() -> connect("app_user"));
        same("28000", error.getSQLState());
        same(true, error.getMessage().contains("pgvpd: "));
        ok("no_tenant");

        try (var console = connect("admin", "pgvpd")) {
            var used = 0L;
            for (var again = 0; again < 5; again++) {
                try (var lists = console.prepareStatement("SHOW LISTS"); var rows = lists.executeQuery()) {
                    while (rows.next()) {
                        used = rows.getString("list").equals("used_clients") ? rows.getLong("items") : used;
                    }
                }
            }
            same(true, used >= 2);
            try (var disconnect = console.prepareStatement("DISCONNECT TENANT ?")) {
                disconnect.setString(1, "nobody");
                same(0, disconnect.executeUpdate());
            }
        }
        ok("console");
    }
}
