#include "consumer/encoder/help.h"

#include <libavcodec/avcodec.h>
#include <libavutil/avutil.h>
#include <stdio.h>

static const char text[] =
	"sluice-encode records a stream of sluice-broker into a video file, or sends it on.\n"
	"\n"
	"Usage: sluice-encode --stream NAME [options] OUTPUT\n"
	"\n"
	"OUTPUT is a file whose ending names the container (.mp4, .mkv, .ts, .flv, …), pipe:1\n"
	"for the standard output, or an URL that FFmpeg can write to (with -f).\n"
	"\n"
	"Source:\n"
	"  --stream NAME        which stream (`sluice ls` shows them)\n"
	"  --socket PATH        the broker's socket; else $SLUICE_SOCKET, else\n"
	"                       $XDG_RUNTIME_DIR/sluice-0\n"
	"  --wait               wait for the broker and the stream instead of failing\n"
	"  --reconnect          go on when the broker or the stream went away and comes back\n"
	"  --format NAME        pixel format that the broker is to convert to: NV12, I420, BGRx, …\n"
	"  -s, --size SIZE      size that it is to scale to: 1280x720, 720p, 1280x\n"
	"  --max-rate FPS       not more frames a second than this, evenly spaced\n"
	"  --queue HOW          fifo:N: up to N frames wait, none is skipped while the encoder\n"
	"                       keeps up (fifo:4); mailbox: only the newest waits, lowest delay\n"
	"  --holds N            frames held at once, 1 to 16 (2)\n"
	"  --reserved N         hold N frames that the broker may not take back; it refuses if\n"
	"                       its pool is too small\n"
	"\n"
	"Picture:\n"
	"  -c, --codec NAME     an encoder of FFmpeg's: libx264 (default), libx265, ffv1, …;\n"
	"                       nvjpeg: motion JPEG on an NVIDIA GPU, also one without NVENC\n"
	"  -b, --bitrate RATE   bits per second: 800k, 4M\n"
	"  --maxrate RATE       never more than this, with --bufsize BITS (a second's worth)\n"
	"  --crf N              constant quality: libx264 18 is fine, 23 usual, 30 small\n"
	"  --qp N               fixed quantiser\n"
	"  --preset NAME        the codec's speed: libx264's is veryfast unless you say otherwise\n"
	"  --tune NAME          libx264's is zerolatency unless you say otherwise; none: no tune\n"
	"  -g, --gop N          a key frame each N frames (else one each second)\n"
	"  --bf N               B-frames between two others\n"
	"  --profile NAME       of the codec: libx264's baseline, main, high, …\n"
	"  -r, --rate FPS       nominal frame rate, for -b (60); times are the capture's own\n"
	"  --cfr                the file has exactly that rate: pictures are repeated or left out\n"
	"  --pix-fmt NAME       FFmpeg's name of a pixel format\n"
	"  -o, --option KEY=VALUE  any other option of the codec; may be given several times\n"
	"\n"
	"Output:\n"
	"  -f, --muxer NAME     the container, as FFmpeg calls it: mp4, matroska, mpegts, flv, …\n"
	"  -t, --time TIME      stop after so long: 90, 1:30, 500ms\n"
	"  --frames N           stop after N frames\n"
	"  --stats FILE         write what happened as JSON when it ends\n"
	"  -q, --quiet          no live statistics\n"
	"  -v, --verbose        FFmpeg's messages as well\n"
	"  -h, --help           this text\n"
	"  -V, --version        versions\n"
	"\n"
	"Options may be written as FFmpeg's are: -c:v, -b:v 4M, -preset fast, -pix_fmt nv12.\n"
	"\n"
	"An existing OUTPUT is overwritten. A killed process leaves a playable file; at most\n"
	"about a second is lost. When the picture changes its size the recording goes on in\n"
	"OUTPUT with -1, -2, … before the ending. A picture that stands still is repeated once a\n"
	"second.\n"
	"\n"
	"Examples:\n"
	"  sluice-encode --stream desktop talk.mp4                 until Ctrl-C\n"
	"  sluice-encode --stream desktop -c ffv1 -t 10 exact.mkv  10 s without loss\n"
	"  sluice-encode --stream desktop -f mpegts pipe:1 | ffplay -\n"
	"  sluice-encode --stream desktop -c nvjpeg -f mpjpeg http://127.0.0.1:8080/?listen=1\n"
	"                                                          for a browser\n"
	"  sluice-encode --stream desktop -b 6M -g 120 -f flv rtmp://localhost/live/desktop\n"
	"\n"
	"Exit status: 0 the recording is complete (Ctrl-C and SIGTERM included); 1 it ended early\n"
	"or could not begin (a sentence says why; what was written is playable); 2 the command\n"
	"line.\n";

void help_print(void)
{
	fputs(text, stdout);
}

void help_print_version(void)
{
	printf("sluice-encode %s (FFmpeg %s)\n", SLUICE_VERSION, av_version_info());
}
