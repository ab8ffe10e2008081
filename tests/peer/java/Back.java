import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.concurrent.Executors;

/**
 * The back service of the two-service chain. It knows nothing of tracing: the agent does that.
 *
 * <p>usage: java -javaagent:opentelemetry-javaagent.jar -cp . Back PORT [LEAF_URL]. Prints {@code listening
 * 127.0.0.1:PORT} once it does; PORT 0 takes a free one. Ends on SIGTERM. GET /stock/... answers {@code in stock}, or
 * what LEAF_URL answers, with the same status: a server nobody instrumented.
 */
public class Back {
  public static void main(String[] args) throws Exception {
    var client = HttpClient.newHttpClient();
    var server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 0);
    server.createContext("/stock/", exchange -> {
      var status = 200;
      var text = "in stock";
      if (args.length > 1) {
        try {
          var leaf = client.send(HttpRequest.newBuilder(URI.create(args[1])).build(), BodyHandlers.ofString());
          status = leaf.statusCode();
          text = leaf.body();
        } catch (Exception e) {
          status = 502;
          text = e.toString();
        }
      }
      var body = text.getBytes();
      exchange.sendResponseHeaders(status, body.length == 0 ? -1 : body.length);
      exchange.getResponseBody().write(body);
      exchange.close();
    });
    server.setExecutor(Executors.newFixedThreadPool(4));
    server.start();
    System.out.println("listening 127.0.0.1:" + server.getAddress().getPort());
  }
}
