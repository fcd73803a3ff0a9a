<?php
// Push or sell listings over HTTP, without any package:
//
//     php push.php push ACCOUNT LISTINGS.json | push ACCOUNT REF... | sell ACCOUNT REF...
//
// $OKASIE_URL is the address of `okasie web`, $OKASIE_WEB_TOKEN a token of [web.tokens] whose role is push or operate.
// It prints the outcome of each listing. The exit status is 1 when one of them was not accepted by the marketplace.

declare(strict_types=1);

final class Okasie
{
    public function __construct(private string $url, private string $token)
    {
    }

    /** Sends a request to the API and returns its document. Throws when it is refused or cannot be reached. */
    public function call(string $method, string $path, ?array $body = null, ?string $key = null): array
    {
        $headers = ["Authorization: Bearer {$this->token}", 'Content-Type: application/json'];
        if ($key !== null) {
            $headers[] = "Idempotency-Key: $key";
        }
        $context = stream_context_create(['http' => [
            'method' => $method, 'header' => $headers, 'timeout' => 75, 'ignore_errors' => true,
            'content' => $body === null ? '' : json_encode($body, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE),
        ]]);
        $answer = @file_get_contents("{$this->url}/api/v1$path", false, $context);
        if ($answer === false) {
            throw new RuntimeException("{$this->url} cannot be reached: " . (error_get_last()['message'] ?? ''));
        }
        $document = json_decode($answer, true, 64, JSON_THROW_ON_ERROR);
        if (isset($document['error']['message'])) {
            throw new RuntimeException("{$document['error']['code']}: {$document['error']['message']}");
        }
        return $document;
    }

    /** Requests a push or a sell, and waits for its outcomes. The same key again is the same request. */
    public function request(string $kind, string $account, array $body): array
    {
        $key = bin2hex(random_bytes(16));
        $path = '/accounts/' . rawurlencode($account) . "/$kind";
        $accepted = $this->call('POST', $path, $body, $key);
        return $this->call('GET', "/requests/{$accepted['request']}?wait=60");
    }
}

[, $kind, $account] = $argv + [null, '', ''];
$rest = array_slice($argv, 3);
if (!in_array($kind, ['push', 'sell'], true) || $rest === []) {
    fwrite(STDERR, "usage: php push.php push ACCOUNT LISTINGS.json|REF...   or   php push.php sell ACCOUNT REF...\n");
    exit(2);
}
$inline = $kind === 'push' && str_ends_with($rest[0], '.json');
$body = $inline
    ? ['listings' => json_decode(file_get_contents($rest[0]), true, 64, JSON_THROW_ON_ERROR), 'version' => time() * 1000]
    : ['references' => $rest];
try {
    $okasie = new Okasie(getenv('OKASIE_URL') ?: 'http://127.0.0.1:8600', (string) getenv('OKASIE_WEB_TOKEN'));
    $state = $okasie->request($kind, $account, $body);
} catch (RuntimeException $error) {
    fwrite(STDERR, $error->getMessage() . "\n");
    exit(1);
}
$good = $state['state'] === 'done' && $state['error'] === null;
foreach ($state['outcomes'] as $reference => $outcome) {
    echo "$reference: {$outcome['outcome']}", $outcome['message'] === null ? '' : " ({$outcome['message']})", "\n";
    $good = $good && in_array($outcome['outcome'], ['created', 'updated', 'sold', 'overtaken'], true);
}
exit($good ? 0 : 1);
