"""Small functions in several languages, with what each does in words: what the sanity checks embed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """A function, its documentation as a person would search for it, and a name for messages."""

    name: str
    documentation: str
    code: str


SAMPLES: tuple[Sample, ...] = (
    Sample(
        "read_csv_rows",
        "Read the rows of a CSV file as dictionaries keyed by column name.",
        """def read_csv_rows(path, delimiter=","):
    with open(path, newline="", encoding="utf-8") as handle:
        return [dict(row) for row in csv.DictReader(handle, delimiter=delimiter)]
""",
    ),
    Sample(
        "shortest_path",
        "Find the shortest path between two nodes of a weighted graph.",
        """def shortest_path(graph, start, goal):
    queue = [(0, start, [start])]
    visited = set()
    while queue:
        distance, node, path = heapq.heappop(queue)
        if node == goal:
            return distance, path
        if node in visited:
            continue
        visited.add(node)
        for neighbour, weight in graph[node].items():
            heapq.heappush(queue, (distance + weight, neighbour, path + [neighbour]))
    raise ValueError(f"no path from {start} to {goal}")
""",
    ),
    Sample(
        "sendEmail",
        "Send an email message with attachments over SMTP.",
        """async function sendEmail(transport, { to, subject, body, attachments = [] }) {
  const message = { from: config.sender, to, subject, text: body };
  message.attachments = attachments.map((file) => ({ filename: file.name, content: file.data }));
  const receipt = await transport.sendMail(message);
  if (receipt.rejected.length > 0) throw new Error(`rejected: ${receipt.rejected.join(", ")}`);
  return receipt.messageId;
}
""",
    ),
    Sample(
        "HashPassword",
        "Hash a user's password with a random salt.",
        """func HashPassword(password string) (string, error) {
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	key := argon2.IDKey([]byte(password), salt, 1, 64*1024, 4, 32)
	return base64.StdEncoding.EncodeToString(append(salt, key...)), nil
}
""",
    ),
    Sample(
        "resize_image",
        "Shrink an image to fit a given width while keeping its aspect ratio.",
        """def resize_image(image, max_width):
    width, height = image.size
    if width <= max_width:
        return image
    return image.resize((max_width, round(height * max_width / width)), Image.LANCZOS)
""",
    ),
    Sample(
        "retry",
        "Retry a failing network request with exponential backoff.",
        """public static <T> T retry(Callable<T> request, int attempts) throws Exception {
    long delayMillis = 100;
    for (int attempt = 1; ; attempt++) {
        try {
            return request.call();
        } catch (IOException failure) {
            if (attempt == attempts) throw failure;
            Thread.sleep(delayMillis);
            delayMillis *= 2;
        }
    }
}
""",
    ),
    Sample(
        "median",
        "Compute the median of a list of numbers.",
        """fn median(values: &mut Vec<f64>) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    values.sort_by(|a, b| a.total_cmp(b));
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        return Some(values[middle]);
    }
    Some((values[middle - 1] + values[middle]) / 2.0)
}
""",
    ),
    Sample(
        "is_palindrome",
        "Check whether a string reads the same forwards and backwards.",
        """def is_palindrome(text)
  letters = text.downcase.gsub(/[^a-z0-9]/, "")
  letters == letters.reverse
end
""",
    ),
)
