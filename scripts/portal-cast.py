#!/usr/bin/python3
"""portal-cast.py CMD...

Ask the desktop's portal (xdg-desktop-portal) for a screen cast and run CMD with NODE set to its
PipeWire node id and REMOTE_FD to an inherited connection to PipeWire that may see that node:

    portal-cast.py sh -c 'sluice-broker --source desktop=pipewire:id=$NODE,remote-fd=$REMOTE_FD'

The desktop asks its user which screen to share. The cast ends with CMD.

Exit status: that of CMD; 70 if there is no portal or the user refused; 77 if Python's GLib bindings
are missing.
"""
import os
import signal
import subprocess
import sys

try:
    from gi.repository import Gio, GLib
except ImportError:
    print('portal-cast.py: python3-gi is not installed (scripts/setup run installs it)',
          file=sys.stderr)
    sys.exit(77)

PORTAL = 'org.freedesktop.portal.Desktop'
PATH = '/org/freedesktop/portal/desktop'
SCREEN_CAST = 'org.freedesktop.portal.ScreenCast'
MONITOR, CURSOR_EMBEDDED = 1, 2
CALL_MS = 15000
USER_S = 120  # to answer the desktop's question


class Refused(Exception):
    """The portal or its user said no; the text says which."""


class Cast:
    """One screen cast session of the portal."""

    def __init__(self, bus):
        self.bus = bus
        self.sender = bus.get_unique_name()[1:].replace('.', '_')
        self.requests = 0
        self.session = None

    def call(self, method, signature, args, fds=False):
        variant = GLib.Variant(signature, args)
        call = (self.bus.call_with_unix_fd_list_sync if fds else self.bus.call_sync)
        extra = (None, None) if fds else (None,)
        return call(PORTAL, PATH, SCREEN_CAST, method, variant, None, Gio.DBusCallFlags.NONE,
                    CALL_MS, *extra)

    def request(self, method, args, options):
        """A call whose answer comes later, as a signal of an object with a name of our choice."""
        self.requests += 1
        token = 'sluice%d_%d' % (os.getpid(), self.requests)
        loop, answer = GLib.MainLoop(), []

        def on_response(_bus, _sender, _path, _interface, _signal, response):
            answer.append(response.unpack())
            loop.quit()

        watch = self.bus.signal_subscribe(
            PORTAL, 'org.freedesktop.portal.Request', 'Response',
            PATH + '/request/%s/%s' % (self.sender, token), None, Gio.DBusSignalFlags.NONE,
            on_response)
        options = dict(options, handle_token=GLib.Variant('s', token))
        self.call(method, '(%sa{sv})' % ''.join(kind for kind, _value in args),
                  tuple(value for _kind, value in args) + (options,))
        timer = GLib.timeout_add_seconds(USER_S, loop.quit)
        if not answer:
            loop.run()
        self.bus.signal_unsubscribe(watch)
        if not answer:
            raise Refused('%s: no answer within %d s' % (method, USER_S))
        GLib.source_remove(timer)
        status, results = answer[0]
        if status:
            raise Refused('%s: %s' % (method, 'the user said no' if status == 1 else 'failed'))
        return results

    def open(self):
        """The node id of the screen that the user chose."""
        token = GLib.Variant('s', 'sluice%d' % os.getpid())
        self.session = self.request('CreateSession', [],
                                    {'session_handle_token': token})['session_handle']
        options = {'types': GLib.Variant('u', MONITOR), 'multiple': GLib.Variant('b', False)}
        if self.cursor_modes() & CURSOR_EMBEDDED:
            options['cursor_mode'] = GLib.Variant('u', CURSOR_EMBEDDED)
        self.request('SelectSources', [('o', self.session)], options)
        streams = self.request('Start', [('o', self.session), ('s', '')], {}).get('streams')
        if not streams:
            raise Refused('Start: no screen was chosen')
        return streams[0][0]

    def cursor_modes(self):
        answer = self.bus.call_sync(
            PORTAL, PATH, 'org.freedesktop.DBus.Properties', 'Get',
            GLib.Variant('(ss)', (SCREEN_CAST, 'AvailableCursorModes')), None,
            Gio.DBusCallFlags.NONE, CALL_MS, None)
        return answer.unpack()[0]

    def remote_fd(self):
        """A connection to PipeWire on which only the cast's node is seen."""
        answer, fds = self.call('OpenPipeWireRemote', '(oa{sv})', (self.session, {}), fds=True)
        return fds.get(answer.unpack()[0])


def run(command, node, remote_fd):
    env = dict(os.environ, NODE=str(node), REMOTE_FD=str(remote_fd))
    child = subprocess.Popen(command, env=env, pass_fds=[remote_fd])
    # Told to end: tell CMD, and end when it has. Ctrl-C reaches CMD from the terminal.
    signal.signal(signal.SIGTERM, lambda _number, _frame: child.terminate())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = child.wait()
    return status if status >= 0 else 128 - status


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ('-h', '--help'):
        print(__doc__)
        return 0 if len(sys.argv) > 1 else 2
    try:
        cast = Cast(Gio.bus_get_sync(Gio.BusType.SESSION, None))
        print('portal: asking the desktop for a screen; it may ask you which one', flush=True)
        node = cast.open()
        remote_fd = cast.remote_fd()
    except Refused as refusal:
        print('portal-cast.py: no screen cast: %s' % refusal, file=sys.stderr)
        return 70
    except GLib.Error as error:
        print('portal-cast.py: no screen cast: %s: is xdg-desktop-portal running, with the backend '
              'of this desktop?' % error.message, file=sys.stderr)
        return 70
    return run(sys.argv[1:], node, remote_fd)


if __name__ == '__main__':
    sys.exit(main())
