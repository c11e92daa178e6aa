// Logs in once for each line `PORT USER WAY`, and prints one line each.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.Properties;
import org.postgresql.util.PSQLException;

public class PgJdbcTls {
    static String login(String port, String user, String way) throws SQLException {
        var settings = new Properties();
        settings.setProperty("user", user);
        settings.setProperty("password", System.getenv("PGPASSWORD"));
        settings.setProperty("sslmode", way);
        settings.setProperty("sslrootcert", System.getenv("PGVPD_CA"));
        settings.setProperty("loginTimeout", "30");
        var url = "jdbc:postgresql://localhost:" + port + "/" + System.getenv("PGDATABASE");
        try (var connection = DriverManager.getConnection(url, settings);
            var rows = connection.createStatement().executeQuery("SELECT current_tenant_id()")) {
            rows.next();
            return rows.getString(1);
        }
    }

    public static void main(String[] arguments) throws Exception {
        var lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            var words = line.split(" ");
            try {
                System.out.println("ok " + login(words[0], words[1], words[2]));
            } catch (SQLException error) {
                var server = error instanceof PSQLException ? ((PSQLException) error).getServerErrorMessage() : null;
                var hint = server == null ? "" : " " + server.getHint();
                System.out.println("error " + (error.getMessage() + hint).replace('\n', ' '));
            }
        }
    }
}
