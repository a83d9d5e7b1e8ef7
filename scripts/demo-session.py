#!/usr/bin/python3
"""demo-session.py: the part of scripts/demo that runs inside a desktop session.

Starts a broker that captures the PipeWire node NODE (with REMOTE_FD: over that connection), records
it with two encoders, kills one, starts another in its place, stops that one for two seconds, and
says what each consumer got. Exit status: 0 if the encoder that was left alone lost nothing.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

STOP_S = 2.0        # how long the stopped encoder stands still
RESTART_S = 1.0     # between the kill and the encoder that takes its place
LOST_AT_KILL_S = 2.5  # of a recording: the fragment that was not written, and the encoder's start
NS_PER_MS = 1e6


class Failed(Exception):
    """The demo cannot go on; the text is for people."""


def say(text):
    print('%5.1f s  %s' % (time.monotonic() - say.began, text), flush=True)


say.began = time.monotonic()


class Demo:
    """The processes of the demo. All are ended by close(), in whatever state they are."""

    def __init__(self, options):
        self.options = options
        self.dir = tempfile.TemporaryDirectory(prefix='sluice-demo.')
        self.socket = os.path.join(self.dir.name, 'sluice-0')
        self.children = []

    def start(self, name, *command, pass_fds=()):
        log = open(os.path.join(self.options.out, 'logs', name + '.log'), 'wb')
        with log:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     pass_fds=pass_fds)
        child.name, child.log = name, log.name
        self.children.append(child)
        return child

    def close(self):
        for child in reversed(self.children):
            if child.poll() is None:
                child.send_signal(signal.SIGCONT)
                child.terminate()
                try:
                    child.wait(5)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        self.dir.cleanup()

    def check(self, *children):
        """Nobody may have ended by itself."""
        for child in children:
            if child.poll() is not None:
                raise Failed('%s ended with status %d; its last words:\n%s' %
                             (child.name, child.returncode, tail(child.log)))

    def status(self):
        """What `sluice ls --json` says, or None while the broker does not answer."""
        listing = subprocess.run(['sluice', 'ls', '--socket', self.socket, '--json'],
                                 capture_output=True, check=False)
        return json.loads(listing.stdout) if listing.returncode == 0 else None

    def start_broker(self):
        target = 'pipewire:id=' + os.environ['NODE']
        fds = ()
        if 'REMOTE_FD' in os.environ:
            target += ',remote-fd=' + os.environ['REMOTE_FD']
            fds = (int(os.environ['REMOTE_FD']),)
        broker = self.start('broker', 'sluice-broker', '--socket', self.socket, '--slots', '16',
                            '--source', 'desktop=' + target, pass_fds=fds)
        for _ in range(200):
            self.check(broker)
            status = self.status()
            if status and status['streams'][0]['state'] == 'live':
                return broker, status['streams'][0]
            time.sleep(0.05)
        raise Failed('no picture came from the desktop within 10 s:\n' + tail(broker.log))

    def start_encoder(self, name, queue, quality, preset):
        encoder = self.start(
            name, 'sluice-encode', '--socket', self.socket, '--stream', 'desktop',
            '--queue', queue, '--crf', str(quality), '--preset', preset,
            '--stats', self.path(name + '.json'), self.path(name + '.mp4'))
        encoder.queue, encoder.began, encoder.ended = queue, time.monotonic(), None
        encoder.end = 'finished'
        return encoder

    def path(self, name):
        return os.path.join(self.options.out, name)


def tail(path, lines=8):
    with open(path, errors='replace') as log:
        return ''.join('    ' + line for line in log.readlines()[-lines:])


def end_encoder(encoder):
    encoder.send_signal(signal.SIGINT)
    encoder.ended = time.monotonic()
    try:
        encoder.wait(15)
    except subprocess.TimeoutExpired:
        raise Failed('%s did not end within 15 s after SIGINT' % encoder.name) from None


def play(demo):
    """The story. Returns the encoders, and the broker's last word."""
    seconds = demo.options.seconds
    if demo.options.clock:
        demo.start('window', 'foot', '--config=/dev/null', '-o', 'font=monospace:size=26',
                   '--window-size-chars=40x8', demo.options.clock)
        say('a window with a running clock opens: a still desktop would send no frames')
        time.sleep(1)
    broker, stream = demo.start_broker()
    say('the broker (pid %d) captures the desktop: %dx%d %s' %
        (broker.pid, stream['width'], stream['height'], stream['format']))
    began = time.monotonic()

    def until(second):
        time.sleep(max(0, began + second - time.monotonic()))

    archive = demo.start_encoder('archive', 'fifo:8', 18, 'veryfast')
    live = demo.start_encoder('live-1', 'mailbox', 30, 'ultrafast')
    say('two encoder processes record it: archive (fifo:8, CRF 18, veryfast) wants every frame, '
        'live-1 (mailbox, CRF 30, ultrafast) the newest')

    until(seconds * 0.3)
    demo.check(broker, archive, live)
    live.kill()
    live.wait()
    live.ended, live.end = time.monotonic(), 'killed'
    say('live-1 (pid %d) is killed with SIGKILL: the broker takes back what it held, archive must '
        'not notice' % live.pid)
    time.sleep(RESTART_S)
    live2 = demo.start_encoder('live-2', 'mailbox', 30, 'ultrafast')
    say('live-2 takes its place')

    until(seconds * 0.6)
    demo.check(broker, archive, live2)
    live2.send_signal(signal.SIGSTOP)
    say('live-2 (pid %d) is stopped with SIGSTOP, with the frames that it holds: the broker skips '
        'frames for it, capture and archive go on' % live2.pid)
    time.sleep(STOP_S)
    live2.send_signal(signal.SIGCONT)
    live2.end = 'stopped 2 s'
    say('live-2 may run again: it goes on with the newest frame')

    until(seconds)
    demo.check(broker, archive, live2)
    snap = subprocess.run(['sluice-snap', '--socket', demo.socket, '--stream', 'desktop',
                           demo.path('desktop.png')], capture_output=True, text=True, check=False)
    if snap.returncode:
        raise Failed('sluice-snap: ' + snap.stderr.strip())
    status = demo.status()  # of those who run, and of the one that was killed
    if not status:
        raise Failed('the broker does not answer any more:\n' + tail(broker.log))
    for encoder in (archive, live2):
        end_encoder(encoder)
    demo.check(broker)
    say('the recordings are finished')
    return (archive, live, live2), status


# --- what came of it ---------------------------------------------------------------------------


def probe(path):
    """codec, size, frames and seconds of a recording, or None if it is not playable."""
    run = subprocess.run(
        ['ffprobe', '-v', 'error', '-count_frames', '-select_streams', 'v:0', '-of', 'json',
         '-show_entries', 'stream=codec_name,width,height,nb_read_frames:format=duration', path],
        capture_output=True, text=True, check=False)
    found = json.loads(run.stdout or '{}')
    if run.returncode or not found.get('streams'):
        return None
    stream = found['streams'][0]
    return {'codec': stream['codec_name'], 'size': '%dx%d' % (stream['width'], stream['height']),
            'frames': int(stream.get('nb_read_frames', 0)),
            'seconds': float(found['format'].get('duration', 0))}


def distinct_pictures(path):
    """How many different pictures a recording shows."""
    run = subprocess.run(['ffmpeg', '-v', 'error', '-i', path, '-map', '0:v', '-f', 'framemd5',
                          '-'], capture_output=True, text=True, check=False)
    lines = [line for line in run.stdout.splitlines() if not line.startswith('#')]
    return len({line.rsplit(',', 1)[-1] for line in lines})


def result_of(encoder, status, demo):
    """Everything that is known of one consumer, from the broker, from itself and from its file."""
    client = next((c for c in status['clients'] if c['pid'] == encoder.pid), None)
    if not client or not client['subscriptions']:
        raise Failed('the broker knows nothing of %s (pid %d)' % (encoder.name, encoder.pid))
    stats_path = demo.path(encoder.name + '.json')
    with open(stats_path) as file:
        text = file.read()
    if not text:  # a killed one could not write any
        os.remove(stats_path)
    return {'name': encoder.name, 'queue': encoder.queue, 'end': encoder.end,
            'seconds': encoder.ended - encoder.began, 'broker': client['subscriptions'][0],
            'stats': json.loads(text) if text else None,
            'file': probe(demo.path(encoder.name + '.mp4'))}


def table(results):
    head = ('consumer', 'queue', 'sent', 'skipped', 'dropped', 'revoked', 'gaps',
            'to receiver ms', 'to packet ms', 'end', 'file')
    rows = [head]
    for r in results:
        broker, stats, file = r['broker'], r['stats'], r['file']
        rows.append((
            r['name'], r['queue'], str(broker['sent']), str(broker['skipped']),
            str(broker['dropped']), str(broker['revoked']), str(stats['n_gaps']) if stats else '-',
            '%.1f / %.1f' % (broker['latency_p50_ns'] / NS_PER_MS,
                             broker['latency_p99_ns'] / NS_PER_MS),
            '%.1f / %.1f' % (stats['latency_ms']['capture_to_packet']['p50'],
                             stats['latency_ms']['capture_to_packet']['p99']) if stats else '-',
            r['end'],
            '%s %s, %d frames, %.1f s' % (file['codec'], file['size'], file['frames'],
                                          file['seconds']) if file else 'NOT PLAYABLE'))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
                     for row in rows)


def faults_of_healthy(result):
    """What the encoder that was left alone lost: nothing is the only good answer."""
    lost = {name: result['broker'][name] for name in ('skipped', 'dropped', 'revoked')}
    stats = result['stats']
    if not stats:
        return ['%s left no statistics' % result['name']]
    lost.update({name: stats[name] for name in ('n_gaps', 'missed', 'torn')})
    return ['%s, which nobody touched, has %s %d' % (result['name'], name.replace('n_', ''), count)
            for name, count in lost.items() if count]


def faults_of_file(result):
    file = result['file']
    if not file or not file['frames']:
        return ['%s.mp4 is not playable' % result['name']]
    if file['codec'] != 'h264':
        return ['%s.mp4 is %s, not H.264' % (result['name'], file['codec'])]
    if file['seconds'] < result['seconds'] - LOST_AT_KILL_S:
        return ['%s.mp4 has %.1f s of the %.1f s that its encoder ran' %
                (result['name'], file['seconds'], result['seconds'])]
    return []


def judge(results, demo):
    faults = faults_of_healthy(results[0])
    for result in results:
        faults += faults_of_file(result)
    pictures = distinct_pictures(demo.path('archive.mp4'))
    if demo.options.clock and pictures < 5 * demo.options.seconds:
        faults.append('the picture hardly moves: %d different ones in archive.mp4' % pictures)
    return faults, pictures


def contact_sheet(results, demo):
    """One row of six pictures for each recording, evenly spread over it."""
    inputs, parts = [], []
    for i, result in enumerate(results):
        inputs += ['-i', demo.path(result['name'] + '.mp4')]
        step = max(1, result['file']['frames'] // 6)
        parts.append("[%d:v]select='not(mod(n,%d))*lt(n,%d)',scale=320:-2,tile=6x1:padding=4[r%d]" %
                     (i, step, 6 * step, i))
    rows = ''.join('[r%d]' % i for i in range(len(results)))
    graph = ';'.join(parts) + ';%svstack=inputs=%d' % (rows, len(results))
    subprocess.run(['ffmpeg', '-v', 'error', '-y', *inputs, '-filter_complex', graph,
                    '-frames:v', '1', demo.path('contact-sheet.png')], check=True)


def report(encoders, status, demo):
    results = [result_of(encoder, status, demo) for encoder in encoders]
    faults, pictures = judge(results, demo)
    view = status['streams'][0]['views'][0]
    if all(r['file'] for r in results):
        contact_sheet(results, demo)
    verdict = 'FAILED: ' + '; '.join(faults) if faults else (
        'PASSED: one encoder was killed, one was stopped, and archive has all of its %d frames' %
        results[0]['stats']['frames'])
    text = '''
%s

sent, skipped, dropped, revoked: frames, as the broker counts them. gaps: jumps in the numbers of
the frames that were encoded. Latencies are p50 / p99: from publication until the consumer has the
frame, and from capture until it is a compressed packet.
The broker published %d frames, lost %d for want of a free slot; copying one took %.1f ms (p50).
archive.mp4 shows %d different pictures.

%s
''' % (table(results), view['published'], view['no_slot'], view['copy_p50_ns'] / NS_PER_MS,
        pictures, verdict)
    print(text, end='')
    with open(demo.path('summary.txt'), 'w') as file:
        file.write(text.lstrip() + FILES_TEXT)
    print('\nTo look at, in %s: desktop.png, contact-sheet.png, the recordings, summary.txt' %
          demo.options.out)
    return 1 if faults else 0


FILES_TEXT = '''
desktop.png        the desktop, as sluice-snap got it from the broker
contact-sheet.png  six pictures of each recording, one row each: archive, live-1, live-2
archive.mp4        recorded by the encoder that was left alone
live-1.mp4         by the encoder that was killed: it plays up to that moment
live-2.mp4         by the encoder that took its place and was stopped for two seconds
*.json             what the encoders say of themselves (a killed one says nothing)
logs/              what every program said
'''


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', required=True, help='where the results go')
    parser.add_argument('--seconds', type=float, required=True)
    parser.add_argument('--clock', help='program for a window that moves; else none is opened')
    demo = Demo(parser.parse_args())
    os.makedirs(demo.path('logs'), exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return report(*play(demo), demo)
    except Failed as failure:
        print('demo: ' + str(failure), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('demo: interrupted', file=sys.stderr)
        return 130
    finally:
        demo.close()


if __name__ == '__main__':
    sys.exit(main())
