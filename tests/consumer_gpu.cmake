# libsluice's GPU importers against the scripted broker, whose memory is lavapipe's.
if(TEST_VULKAN_FOUND)
	sluice_layer(sluice_fake_gpu fake_gpu.c exported_memory.c)
	target_link_libraries(sluice_fake_gpu PUBLIC sluice_fake_broker sluice_fake_timeline
		PkgConfig::TEST_VULKAN)
	target_link_options(sluice_fake_gpu PUBLIC -Wl,--wrap=close) # each is looked at
	sluice_layer(sluice_cuda_session cuda_session.c)
	target_link_libraries(sluice_cuda_session PUBLIC sluice_fake_gpu PkgConfig::FFNVCODEC
		${CMAKE_DL_LIBS})
	foreach(name test_consumer_cuda test_consumer_fallback test_consumer_gpu_hostile
			test_consumer_timeline)
		sluice_test(${name} sluice_cuda_session)
		sluice_with_fake_cuda(${name})
		set_property(TEST ${name} APPEND PROPERTY LABELS thread)
	endforeach()
	if(SLUICE_VULKAN)
		sluice_test(test_consumer_vulkan sluice_fake_gpu)
	endif()
endif()
